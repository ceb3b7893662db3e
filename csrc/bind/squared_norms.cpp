// squared_norms: Tensor -> parameters, for the CPU.
#include "../math/squared_norms.h"

#ifndef USE_CUDA
#include "../cpu/squared_norms.h"
#include "tensor.h"

namespace gankern::bind {

namespace {

// Whether each sample is one dense run of memory, contiguous or channels_last, and the samples follow each other.
bool has_dense_samples(const Tensor& x) {
  int64_t contiguous = 1;
  bool is_contiguous = true;
  for (int64_t d = x.dim() - 1; d >= 0; --d) {
    is_contiguous = is_contiguous && (x.size(d) == 1 || x.stride(d) == contiguous);
    contiguous *= x.size(d);
  }
  if (is_contiguous || x.dim() != 4) return is_contiguous;
  const int64_t c = x.size(1), h = x.size(2), w = x.size(3);
  const bool pixels = (w == 1 || x.stride(3) == c) && (h == 1 || x.stride(2) == c * w);
  return pixels && (c == 1 || x.stride(1) == 1) && (x.size(0) == 1 || x.stride(0) == c * h * w);
}

SquaredNormsParams params_of(const Tensor& x, const char* op) {
  SquaredNormsParams p{};
  p.dtype = dtype_of(x, op, "x");
  p.x = x.const_data_ptr();
  p.samples = x.size(0), p.size = x.numel() / x.size(0);
  return p;
}

ScalarType sum_type(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

}  // namespace

Tensor squared_norms(const Tensor x_any) {
  STD_TORCH_CHECK(x_any.dim() >= 1, "gankern.squared_norms: x must have at least one dimension, got a scalar tensor");
  Tensor y = torch::stable::new_empty(x_any, {x_any.size(0)}, sum_type(x_any));
  if (x_any.numel() == 0) return torch::stable::zero_(y);
  const Tensor x = has_dense_samples(x_any) ? x_any : torch::stable::contiguous(x_any);
  const SquaredNormsParams p = params_of(x, "squared_norms");
  std::vector<double> partial(p.samples * p.pieces());
  using namespace cpu;
  parallel_for(0, int64_t(partial.size()), 1 + 32768 / p.size,
               [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(squared_norms, p, partial.data(), begin, end); });
  void* to = y.mutable_data_ptr();
  const auto total = [&]<typename T>(T* into, int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      double sum = 0;
      for (int64_t i = 0; i < p.pieces(); ++i) sum += partial[n * p.pieces() + i];
      into[n] = T(sum);
    }
  };
  parallel_for(0, p.samples, 32768, [&](int64_t begin, int64_t end) {
    p.dtype == DType::f64 ? total(static_cast<double*>(to), begin, end) : total(static_cast<float*>(to), begin, end);
  });
  return y;
}

Tensor squared_norms_backward(const Tensor dy_any, const Tensor x_any) {
  STD_TORCH_CHECK(x_any.dim() >= 1 && dy_any.dim() == 1 && dy_any.size(0) == x_any.size(0),
                  "gankern.squared_norms_backward: dy must have shape [N], one number for each sample of x");
  STD_TORCH_CHECK(dy_any.scalar_type() == sum_type(x_any),
                  "gankern.squared_norms_backward: dy must be float64 if x is, else float32");
  Tensor dx = torch::stable::empty_like(x_any);
  if (x_any.numel() == 0) return dx;
  const bool dense = has_dense_samples(dx);
  const Tensor x = dense ? laid_out_as(x_any, dx) : torch::stable::contiguous(x_any);
  const Tensor dy = torch::stable::contiguous(dy_any);
  Tensor result = dense ? dx : torch::stable::empty_like(x);
  SquaredNormsParams p = params_of(x, "squared_norms_backward");
  p.dy = dy.const_data_ptr(), p.dx = result.mutable_data_ptr();
  using namespace cpu;
  parallel_for(0, p.samples * p.pieces(), 1 + 32768 / p.size,
               [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(squared_norms_backward, p, begin, end); });
  return dense ? dx : torch::stable::copy_(dx, result);
}

STABLE_TORCH_LIBRARY_IMPL(gankern, CPU, m) {
  m.impl("squared_norms", TORCH_BOX(&squared_norms));
  m.impl("squared_norms_backward", TORCH_BOX(&squared_norms_backward));
}

}  // namespace gankern::bind
#endif
