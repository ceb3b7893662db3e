// style_epilogue: Tensor -> parameters, for the CPU.
#ifndef USE_CUDA
#include "../math/style_epilogue.h"

#include <optional>
#include <tuple>

#include "../cpu/style_epilogue.h"
#include "tensor.h"

namespace gankern::bind {

namespace {

using Optional = std::optional<Tensor>;

bool is_dense(const Tensor& t, std::initializer_list<int64_t> order) {
  int64_t expected = 1;
  for (int64_t d : order) {
    if (t.size(d) != 1 && t.stride(d) != expected) return false;
    expected *= t.size(d);
  }
  return true;
}

bool is_contiguous(const Tensor& t) {
  return is_dense(t, {3, 2, 1, 0});
}
bool is_dense_channels_last(const Tensor& t) {
  return is_dense(t, {1, 3, 2, 0});
}

// One call: the parameters, and the tensors whose memory they point to.
struct Call {
  const char* op;
  StyleEpilogueParams p{};
  ScalarType dtype, accumulate;
  Tensor like;         // the first output: contiguous or channels_last, as all that the kernels read and write
  bool other = false;  // whether x has another memory format
  std::vector<Tensor> kept;

  Call(const char* op_, const Tensor& x, double alpha, double gain, double eps) : op(op_), dtype(x.scalar_type()) {
    STD_TORCH_CHECK(x.dim() == 4, "gankern.", op, ": x must have 4 dimensions [N, C, H, W]");
    p.dtype = dtype_of(x, op, "x");
    accumulate = p.dtype == DType::f64 ? ScalarType::Double : ScalarType::Float;
    like = torch::stable::empty_like(x);
    other = !is_contiguous(like) && !is_dense_channels_last(like);
    if (other) {
      like = torch::stable::new_empty(x, {x.size(0), x.size(1), x.size(2), x.size(3)});
    }
    p.channels_last = !is_contiguous(like);
    p.images = x.size(0), p.channels = x.size(1), p.pixels = x.size(2) * x.size(3);
    p.alpha = alpha, p.gain = gain, p.eps = eps;
    p.x = image(x);
  }

  const void* image(const Tensor& t) {
    STD_TORCH_CHECK(t.scalar_type() == dtype && t.sizes().equals(like.sizes()), "gankern.", op,
                    ": dy and ddx must be of the shape and dtype of x");
    kept.push_back(laid_out_as(t, like));
    return kept.back().const_data_ptr();
  }

  const void* parameter(const Optional& t, const char* name, int64_t size, int64_t other_size, bool* is_first) {
    if (!t.has_value()) return nullptr;
    STD_TORCH_CHECK(t->scalar_type() == accumulate, "gankern.", op, ": ", name, " must be float64 for float64, else ",
                    "float32");
    STD_TORCH_CHECK(t->numel() == size || t->numel() == other_size, "gankern.", op, ": ", name, " must have ", size,
                    " elements, got ", t->numel());
    *is_first = t->numel() == size;
    kept.push_back(torch::stable::contiguous(*t));
    return kept.back().const_data_ptr();
  }

  const void* style(const Optional& t, const char* name) {
    bool is_first;
    return parameter(t, name, p.images * p.channels, p.images * p.channels, &is_first);
  }

  void tail(const Optional& noise, const Optional& strength, const Optional& b, const Optional& scale) {
    bool is_first;
    p.noise = parameter(noise, "noise", p.images * p.pixels, p.pixels, &p.noise_each);
    p.strength = parameter(strength, "strength", p.channels, 1, &p.strength_each);
    p.b = parameter(b, "b", p.channels, p.channels, &is_first);
    p.scale = style(scale, "scale");
  }

  void statistics(const Tensor& mean, const Tensor& rstd) {
    p.mean = const_cast<void*>(style(mean, "mean"));
    p.rstd = const_cast<void*>(style(rstd, "rstd"));
  }

  // An output [N, C], or [0] if it is not wanted.
  Tensor sums(bool wanted, void** to) const {
    if (!wanted) return torch::stable::new_empty(like, {0}, accumulate);
    Tensor t = torch::stable::new_empty(like, {p.images, p.channels}, accumulate);
    *to = t.mutable_data_ptr();
    return t;
  }

  Tensor output(int k) {
    Tensor t = k == 0 ? like : torch::stable::empty_like(like);
    p.out[k] = t.mutable_data_ptr();
    return t;
  }

  // An output with the strides of empty_like(x).
  Tensor finished(const Tensor& t, const Tensor& x) const {
    return other ? laid_out_as(t, torch::stable::empty_like(x)) : t;
  }

  void run(int order) const {
    STD_TORCH_CHECK(p.pixels > 0, "gankern.", op, ": x must have H >= 1 and W >= 1");
    if (like.numel() == 0) return;
    using namespace cpu;
    const StyleEpilogueUnits units(p);
    const int64_t grain = 1 + 16384 * units.count / like.numel();
    parallel_for(0, units.count, grain,
                 [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(style_epilogue, p, order, begin, end); });
  }
};

}  // namespace

std::tuple<Tensor, Tensor, Tensor> style_epilogue(const Tensor x, const Optional noise, const Optional strength,
                                                  const Optional b, const Optional scale, const Optional shift,
                                                  double alpha, double gain, double eps) {
  Call call("style_epilogue", x, alpha, gain, eps);
  call.tail(noise, strength, b, scale);
  call.p.shift = call.style(shift, "shift");
  const Tensor y = call.output(0);
  const Tensor mean = call.sums(true, &call.p.mean), rstd = call.sums(true, &call.p.rstd);
  call.run(0);
  return {call.finished(y, x), mean, rstd};
}

using Five = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

Five style_epilogue_backward(const Tensor dy, const Tensor x, const Optional noise, const Optional strength,
                             const Optional b, const Optional scale, const Tensor mean, const Tensor rstd, double alpha,
                             double gain, double eps, bool sums) {
  Call call("style_epilogue_backward", x, alpha, gain, eps);
  call.p.dy = call.image(dy);
  call.tail(noise, strength, b, scale);
  call.statistics(mean, rstd);
  const Tensor dx = call.output(0);
  const Tensor dscale = call.sums(true, &call.p.dscale), dshift = call.sums(true, &call.p.dshift);
  const Tensor total = call.sums(sums, &call.p.total);
  const Tensor noise_total = call.sums(sums && noise.has_value(), &call.p.noise_total);
  call.run(1);
  return {call.finished(dx, x), dscale, dshift, total, noise_total};
}

Five style_epilogue_backward_backward(const Tensor ddx, const Optional ddscale, const Optional ddshift, const Tensor dy,
                                      const Tensor x, const Optional noise, const Optional strength, const Optional b,
                                      const Optional scale, const Tensor mean, const Tensor rstd, double alpha,
                                      double gain, double eps, bool sums) {
  Call call("style_epilogue_backward_backward", x, alpha, gain, eps);
  call.p.ddx = call.image(ddx);
  call.p.dy = call.image(dy);
  call.tail(noise, strength, b, scale);
  call.statistics(mean, rstd);
  call.p.ddscale = call.style(ddscale, "ddscale");
  call.p.ddshift = call.style(ddshift, "ddshift");
  const Tensor ddy = call.output(0), grad_x = call.output(1);
  const Tensor grad_scale = call.sums(true, &call.p.dscale);
  const Tensor total = call.sums(sums, &call.p.total);
  const Tensor noise_total = call.sums(sums && noise.has_value(), &call.p.noise_total);
  call.run(2);
  return {call.finished(ddy, x), call.finished(grad_x, x), grad_scale, total, noise_total};
}

STABLE_TORCH_LIBRARY_IMPL(gankern, CPU, m) {
  m.impl("style_epilogue", TORCH_BOX(&style_epilogue));
  m.impl("style_epilogue_backward", TORCH_BOX(&style_epilogue_backward));
  m.impl("style_epilogue_backward_backward", TORCH_BOX(&style_epilogue_backward_backward));
}

}  // namespace gankern::bind
#endif
