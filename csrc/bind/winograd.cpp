// winograd: Tensor -> parameters. There are kernels for the CPU only.
#ifndef USE_CUDA
#include "../cpu/winograd.h"

#include <algorithm>

#include "winograd.h"

namespace gankern::bind {

namespace {

WinogradTiles tiles_of(const Tensor& x, int64_t out_h, int64_t out_w, int64_t py, int64_t px) {
  STD_TORCH_CHECK(py >= 0 && py <= 2 && px >= 0 && px <= 2, "gankern.winograd: padding must be in [0, 2], got [", py,
                  ", ", px, "]");
  STD_TORCH_CHECK(out_h >= 1 && out_w >= 1, "gankern.winograd: x must be at least 3x3 with its padding, got ",
                  x.size(2), "x", x.size(3));
  return {x.size(0), out_h, out_w, py, px};
}

// With few tiles, each weight is transformed where it is used.
void convolve_few(WinogradConv2dParams& p) {
  using namespace cpu;
  const int64_t units = (p.x.c + kWinogradFewChannels - 1) / kWinogradFewChannels, tiles = p.tiles.count();
  const int64_t parts = (p.x.c + kWinogradDepth - 1) / kWinogradDepth;
  p.kept = kept_memory(parts * kWinogradPositions * (tiles * kWinogradDepth + kWinogradSkew));
  parallel_for(0, units, 1,
               [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(winograd_few_transform, p, begin, end); });
  const int64_t columns = columns_of(p.w.o), threads = torch::stable::get_num_threads();
  const int64_t splits = std::clamp<int64_t>(threads / columns, 1, tiles);
  parallel_for(0, columns * splits, 1,
               [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(winograd_few_multiply, p, splits, begin, end); });
}

// With many, all weights are transformed first.
void convolve_many(WinogradConv2dParams& p) {
  using namespace cpu;
  p.kept = kept_memory(floats_of_weights(p.w));
  parallel_for(0, columns_of(p.w.o), 1,
               [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(winograd_weight, p, begin, end); });
  const int64_t blocks = GANKERN_CALL_BEST(winograd_conv2d_blocks, p);
  const int64_t splits = equal_shares(blocks, columns_of(p.w.o));
  parallel_for(0, blocks * splits, 1,
               [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(winograd_conv2d, p, splits, begin, end); });
}

}  // namespace

Tensor winograd_conv2d(const Tensor x_any, const Tensor w_any, int64_t py, int64_t px, bool transposed,
                       const std::optional<Tensor> scale_any, const std::optional<Tensor> out_scale_any,
                       const std::optional<Tensor> noise_any, const std::optional<Tensor> strength_any,
                       const std::optional<Tensor> b_any, const std::string act, double alpha, double gain,
                       std::optional<double> clamp) {
  const MemoryFormat format = format_of(x_any);
  const Tensor x = dense(x_any, format);
  const int64_t n = x.size(0), out_h = x.size(2) + 2 * py - 2, out_w = x.size(3) + 2 * px - 2;
  Tensor w;
  WinogradConv2dParams p{};
  p.w = weights(w_any, transposed, transposed, x.size(1), w);
  const int64_t o = p.w.o;
  p.tiles = tiles_of(x, out_h, out_w, py, px);
  if (n * o == 0) {
    return torch::stable::empty({n, o, out_h, out_w}, x.scalar_type(), std::nullopt, x.device(), std::nullopt, format);
  }
  const auto scale = small(scale_any, "scale", n * x.size(1)), out_scale = small(out_scale_any, "out_scale", n * o);
  const bool one_noise = noise_any.has_value() && noise_any->numel() == out_h * out_w;
  const auto noise = small(noise_any, "noise", one_noise ? out_h * out_w : n * out_h * out_w);
  const auto strength = small(strength_any, "strength", 1), b = small(b_any, "b", o);
  Tensor y =
      torch::stable::empty({n, o, out_h, out_w}, x.scalar_type(), std::nullopt, x.device(), std::nullopt, format);
  if (y.numel() == 0) return y;
  p.x = images(x, format), p.y = images(y, format);
  p.scale = pointer(scale), p.out_scale = pointer(out_scale), p.noise = pointer(noise), p.b = pointer(b);
  p.noise_stride = one_noise ? 0 : out_h * out_w;
  p.strength = strength.has_value() ? *pointer(strength) : 1.0f;
  p.act = activation_from(act);
  STD_TORCH_CHECK(p.act != Activation::unknown, "gankern.winograd_conv2d: act must be the name of an activation, got '",
                  act, "'");
  p.alpha = alpha, p.gain = gain, p.clamp = clamp.value_or(-1);
  (cpu::winograd_few(p) ? convolve_few : convolve_many)(p);
  return y;
}

Tensor winograd(const Tensor x, const Tensor w, int64_t py, int64_t px, bool transposed) {
  return winograd_conv2d(x, w, py, px, transposed, std::nullopt, std::nullopt, std::nullopt, std::nullopt, std::nullopt,
                         "linear", 0, 1, std::nullopt);
}

Tensor winograd_weight_gradient(const Tensor x_any, const Tensor dy_any, int64_t py, int64_t px,
                                const std::optional<Tensor> scale_any, const std::optional<Tensor> dy_scale_any) {
  const MemoryFormat format = format_of(x_any), dy_format = format_of(dy_any);
  const Tensor x = dense(x_any, format), dy = dense(dy_any, dy_format);
  STD_TORCH_CHECK(x.scalar_type() == dy.scalar_type() && dy.size(0) == x.size(0) &&
                      dy.size(2) == x.size(2) + 2 * py - 2 && dy.size(3) == x.size(3) + 2 * px - 2,
                  "gankern.winograd_weight_gradient: dy must have the dtype of x and the shape of its convolution");
  WinogradWeightGradientParams p{};
  p.tiles = tiles_of(x, dy.size(2), dy.size(3), py, px);
  const auto scale = small(scale_any, "scale", x.size(0) * x.size(1));
  const auto dy_scale = small(dy_scale_any, "dy_scale", dy.size(0) * dy.size(1));
  Tensor dw = torch::stable::new_empty(x, {dy.size(1), x.size(1), 3, 3}, ScalarType::Float);
  if (x.size(0) == 0 || dw.numel() == 0) return torch::stable::zero_(dw);
  p.x = images(x, format), p.dy = images(dy, dy_format);
  p.scale = pointer(scale), p.dy_scale = pointer(dy_scale);
  using namespace cpu;
  const WinogradGradientGroups plan(p);
  const int64_t shared = plan.in_parts() ? 0 : plan.floats();
  p.v = kept_memory(shared + (plan.at_once() ? 0 : plan.parts() * plan.sums()));
  p.d = p.v + kWinogradPositions * plan.v_position();
  p.sums = p.v + shared;
  p.dw = static_cast<float*>(dw.mutable_data_ptr());
  if (plan.in_parts()) {
    parallel_for(0, plan.parts(), 1,
                 [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(winograd_gradient_part, p, begin, end); });
  }
  for (int64_t group = 0; group < (plan.in_parts() ? 0 : plan.count); ++group) {
    parallel_for(0, plan.transforms(), 1, [&](int64_t begin, int64_t end) {
      GANKERN_CALL_BEST(winograd_gradient_transform, p, group, begin, end);
    });
    if (plan.at_once()) {
      parallel_for(0, plan.units(), 1,
                   [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(winograd_gradient_unit, p, begin, end); });
      return dw;
    }
    parallel_for(0, plan.products(), 1, [&](int64_t begin, int64_t end) {
      GANKERN_CALL_BEST(winograd_gradient_multiply, p, group, begin, end);
    });
  }
  parallel_for(0, plan.rows(), 1,
               [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(winograd_gradient_unpack, p, begin, end); });
  return dw;
}

STABLE_TORCH_LIBRARY_IMPL(gankern, CPU, m) {
  m.impl("winograd", TORCH_BOX(&winograd));
  m.impl("winograd_conv2d", TORCH_BOX(&winograd_conv2d));
  m.impl("winograd_weight_gradient", TORCH_BOX(&winograd_weight_gradient));
}

}  // namespace gankern::bind
#endif
