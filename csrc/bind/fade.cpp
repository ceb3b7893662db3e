// fade: Tensor -> parameters, for the CPU.
#include "../math/fade.h"

#ifndef USE_CUDA
#include <optional>
#include <tuple>

#include "../cpu/fade.h"
#include "upfirdn2d.h"

namespace gankern::bind {

namespace {

// The value of a tensor [], or `number` without one.
double value_of(const std::optional<Tensor>& alpha, double number, const char* op) {
  if (!alpha.has_value()) return number;
  STD_TORCH_CHECK(alpha->dim() == 0, "gankern.", op, ": alpha must be a tensor without dimensions");
  const void* value = alpha->const_data_ptr();
  switch (dtype_of(*alpha, op, "alpha")) {
    case DType::f64:
      return *static_cast<const double*>(value);
    case DType::f32:
      return *static_cast<const float*>(value);
    case DType::bf16:
      return load(*static_cast<const bfloat16*>(value));
    default:
      return load(*static_cast<const float16*>(value));
  }
}

FadeParams params_of(const Tensor& in, bool channels_last, const char* op) {
  FadeParams p{};
  p.dtype = dtype_of(in, op, "its first tensor");
  p.in = in.const_data_ptr();
  p.g = channels_last ? in.size(1) : 1;
  p.planes = channels_last ? in.size(0) : in.size(0) * in.size(1);
  p.h = in.size(2), p.w = in.size(3);
  return p;
}

Tensor empty(const Tensor& like, int64_t h, int64_t w, MemoryFormat format) {
  return torch::stable::empty({like.size(0), like.size(1), h, w}, like.scalar_type(), std::nullopt, like.device(),
                              std::nullopt, format);
}

void run(const FadeParams& p) {
  using namespace cpu;
  const int64_t grain = 1 + 32768 * p.units() / (p.planes * p.h * p.w * p.g);
  parallel_for(0, p.units(), grain, [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(fade, p, begin, end); });
}

}  // namespace

Tensor fade(const Tensor new_any, const std::optional<Tensor> old_any, const std::optional<Tensor> alpha,
            double number) {
  STD_TORCH_CHECK(new_any.dim() == 4, "gankern.fade: new must have 4 dimensions [N, C, H, W], got ", new_any.dim());
  const bool channels_last = is_channels_last(new_any);
  const MemoryFormat format = format_of(channels_last);
  const Tensor in = torch::stable::contiguous(new_any, format);
  Tensor y = empty(in, in.size(2), in.size(3), format);
  FadeParams p = params_of(in, channels_last, "fade");
  p.alpha = value_of(alpha, number, "fade");
  p.out = y.mutable_data_ptr();
  p.kind = Fade::detail;
  Tensor old = in;
  if (old_any.has_value()) {
    STD_TORCH_CHECK(old_any->dim() == 4 && old_any->scalar_type() == in.scalar_type() &&
                        old_any->size(0) == in.size(0) && old_any->size(1) == in.size(1),
                    "gankern.fade: old must have the dtype, N and C of new");
    old = torch::stable::contiguous(*old_any, format);
    p.low = old.const_data_ptr();
    p.kind = old.size(2) == p.h && old.size(3) == p.w ? Fade::same : Fade::half;
  }
  const bool fits =
      p.kind == Fade::detail || (p.kind == Fade::half && old.size(2) * 2 == p.h && old.size(3) * 2 == p.w);
  STD_TORCH_CHECK(p.kind == Fade::same || (fits && p.h % 2 == 0 && p.w % 2 == 0),
                  "gankern.fade: old must have the height and width of new, or half of them, got new [", p.h, ", ", p.w,
                  "]");
  if (y.numel() != 0) run(p);
  return y;
}

std::tuple<Tensor, Tensor> fade_backward(const Tensor dy_any, const std::optional<Tensor> alpha, double number,
                                         bool half) {
  STD_TORCH_CHECK(
      dy_any.dim() == 4 && (!half || (dy_any.size(2) % 2 == 0 && dy_any.size(3) % 2 == 0)),
      "gankern.fade_backward: dy must have 4 dimensions [N, C, H, W], H and W even if old has half of them");
  const bool channels_last = is_channels_last(dy_any);
  const MemoryFormat format = format_of(channels_last);
  const Tensor dy = torch::stable::contiguous(dy_any, format);
  const int64_t scale = half ? 2 : 1;
  Tensor dnew = empty(dy, dy.size(2), dy.size(3), format);
  Tensor dold = empty(dy, dy.size(2) / scale, dy.size(3) / scale, format);
  FadeParams p = params_of(dy, channels_last, "fade_backward");
  p.alpha = value_of(alpha, number, "fade_backward");
  p.kind = half ? Fade::backward_half : Fade::backward_same;
  p.out = dnew.mutable_data_ptr(), p.low_out = dold.mutable_data_ptr();
  if (dy.numel() != 0) run(p);
  return {dnew, dold};
}

STABLE_TORCH_LIBRARY_IMPL(gankern, CPU, m) {
  m.impl("fade", TORCH_BOX(&fade));
  m.impl("fade_backward", TORCH_BOX(&fade_backward));
}

}  // namespace gankern::bind
#endif
