// pixel_norm: Tensor -> parameters, for the CPU.
#ifndef USE_CUDA
#include "../math/pixel_norm.h"

#include <tuple>

#include "../cpu/pixel_norm.h"
#include "tensor.h"

namespace gankern::bind {

namespace {

void run(int order, std::initializer_list<const Tensor*> in, std::initializer_list<Tensor*> out, int64_t dim,
         double eps, const char* op) {
  const Tensor& y = **out.begin();
  STD_TORCH_CHECK(dim >= 0 && dim < y.dim(), "gankern.", op, ": dim must be in [0, ", y.dim(), "), got ", dim);
  if (y.numel() == 0) return;
  const Split split(y, dim);
  PixelNormParams p{};
  p.dtype = dtype_of(y, op, "x");
  std::vector<Tensor> kept;  // copies in the layout of the result
  for (const Tensor* t : in) {
    STD_TORCH_CHECK(t->scalar_type() == y.scalar_type(), "gankern.", op, ": the tensors must have one dtype");
    STD_TORCH_CHECK(t->sizes().equals(y.sizes()), "gankern.", op, ": the tensors must have one shape");
    kept.push_back(laid_out_as(*t, y));
    p.in[kept.size() - 1] = kept.back().const_data_ptr();
  }
  int k = 0;
  for (Tensor* t : out) p.out[k++] = t->mutable_data_ptr();
  p.outer = split.outer, p.channels = split.channels, p.inner = split.inner, p.eps = eps;
  using namespace cpu;
  const PixelNormUnits units(p);
  parallel_for(0, units.count, 1 + 32768 / units.elements,
               [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(pixel_norm, p, order, begin, end); });
}

}  // namespace

Tensor pixel_norm(const Tensor x, int64_t dim, double eps) {
  Tensor y = torch::stable::empty_like(x);
  run(0, {&x}, {&y}, dim, eps, "pixel_norm");
  return y;
}

Tensor pixel_norm_backward(const Tensor dy, const Tensor x, int64_t dim, double eps) {
  Tensor dx = torch::stable::empty_like(x);
  run(1, {&x, &dy}, {&dx}, dim, eps, "pixel_norm_backward");
  return dx;
}

std::tuple<Tensor, Tensor> pixel_norm_backward_backward(const Tensor ddx, const Tensor dy, const Tensor x, int64_t dim,
                                                        double eps) {
  Tensor ddy = torch::stable::empty_like(x), grad_x = torch::stable::empty_like(x);
  run(2, {&x, &dy, &ddx}, {&ddy, &grad_x}, dim, eps, "pixel_norm_backward_backward");
  return {ddy, grad_x};
}

STABLE_TORCH_LIBRARY_IMPL(gankern, CPU, m) {
  m.impl("pixel_norm", TORCH_BOX(&pixel_norm));
  m.impl("pixel_norm_backward", TORCH_BOX(&pixel_norm_backward));
  m.impl("pixel_norm_backward_backward", TORCH_BOX(&pixel_norm_backward_backward));
}

}  // namespace gankern::bind
#endif
