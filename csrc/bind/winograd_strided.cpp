// winograd_strided: Tensor -> parameters. There are kernels for the CPU only.
#ifndef USE_CUDA
#include "../cpu/winograd_strided.h"

#include "winograd.h"

namespace gankern::bind {

namespace {

// Of the convolution along one axis.
int64_t small_size(int64_t large, int64_t padding) {
  return (large + 2 * padding - 3) / 2 + 1;
}

void check_sizes(int64_t large_h, int64_t large_w, int64_t py, int64_t px) {
  STD_TORCH_CHECK(py >= 0 && py <= 2 && px >= 0 && px <= 2,
                  "gankern.winograd_strided: padding must be in [0, 2], got [", py, ", ", px, "]");
  STD_TORCH_CHECK(large_h + 2 * py >= 3 && large_w + 2 * px >= 3 && large_h >= 1 && large_w >= 1,
                  "gankern.winograd_strided: the large image must be at least 3x3 with its padding, got ", large_h, "x",
                  large_w);
}

// With few tiles, each weight is transformed where it is used; with many, all of them first.
void convolve(WinogradStridedConv2dParams& p) {
  using namespace cpu;
  const int64_t columns = columns_of(p.w.o);
  if (winograd_strided_few(p)) {
    p.kept = kept_memory(GANKERN_CALL_BEST(winograd_strided_few_floats, p));
    parallel_for(0, (p.x.c + kWinogradFewChannels - 1) / kWinogradFewChannels, 1,
                 [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(winograd_strided_few_transform, p, begin, end); });
    const int64_t few_splits = std::clamp<int64_t>(torch::stable::get_num_threads() / columns, 1, p.tiles.n);
    parallel_for(0, columns * few_splits, 1, [&](int64_t begin, int64_t end) {
      GANKERN_CALL_BEST(winograd_strided_few_multiply, p, few_splits, begin, end);
    });
    return;
  }
  p.kept = kept_memory(floats_of_weights(p.w));
  parallel_for(0, columns, 1,
               [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(winograd_strided_weight, p, begin, end); });
  const int64_t blocks = WinogradStridedBlocks(p).count(), splits = equal_shares(blocks, columns);
  parallel_for(0, blocks * splits, 1,
               [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(winograd_strided_conv2d, p, splits, begin, end); });
}

}  // namespace

Tensor winograd_strided_conv2d(const Tensor x_any, const Tensor w_any, int64_t py, int64_t px, bool transposed,
                               int64_t extra_y, int64_t extra_x, const std::optional<Tensor> scale_any,
                               const std::optional<Tensor> out_scale_any) {
  const MemoryFormat format = format_of(x_any);
  const Tensor x = dense(x_any, format);
  Tensor dense_w;
  WinogradStridedConv2dParams p{};
  p.w = weights(w_any, transposed, false, x.size(1), dense_w);
  const int64_t n = x.size(0), h = x.size(2), w = x.size(3), o = p.w.o, most = transposed ? 1 : 0;
  STD_TORCH_CHECK(extra_y >= 0 && extra_y <= most && extra_x >= 0 && extra_x <= most,
                  "gankern.winograd_strided_conv2d: extra must be 0, or at most 1 if transposed, got [", extra_y, ", ",
                  extra_x, "]");
  const int64_t out_h = transposed ? 2 * h + 1 - 2 * py + extra_y : small_size(h, py);
  const int64_t out_w = transposed ? 2 * w + 1 - 2 * px + extra_x : small_size(w, px);
  check_sizes(transposed ? out_h : h, transposed ? out_w : w, py, px);
  Tensor y =
      torch::stable::empty({n, o, out_h, out_w}, x.scalar_type(), std::nullopt, x.device(), std::nullopt, format);
  if (y.numel() == 0) return y;
  if (x.size(1) == 0) return torch::stable::zero_(y);
  const auto scale = small(scale_any, "scale", n * x.size(1)), out_scale = small(out_scale_any, "out_scale", n * o);
  p.transposed = transposed;
  p.tiles = {n, transposed ? h : out_h, transposed ? w : out_w, py, px};
  p.x = images(x, format), p.y = images(y, format);
  p.scale = pointer(scale), p.out_scale = pointer(out_scale);
  // No tile reaches the output padding of an image that is not padded.
  const bool beyond = out_h + py > 8 * p.tiles.rows + 1 || out_w + px > 8 * p.tiles.columns + 1;
  if (transposed && beyond) torch::stable::zero_(y);
  convolve(p);
  return y;
}

Tensor winograd_strided(const Tensor x, const Tensor w, int64_t py, int64_t px, bool transposed, int64_t extra_y,
                        int64_t extra_x) {
  return winograd_strided_conv2d(x, w, py, px, transposed, extra_y, extra_x, std::nullopt, std::nullopt);
}

Tensor winograd_strided_weight_gradient(const Tensor large_any, const Tensor small_any, int64_t py, int64_t px,
                                        const std::optional<Tensor> large_scale_any,
                                        const std::optional<Tensor> small_scale_any) {
  const MemoryFormat large_format = format_of(large_any), small_format = format_of(small_any);
  const Tensor large = dense(large_any, large_format), little = dense(small_any, small_format);
  check_sizes(large.size(2), large.size(3), py, px);
  STD_TORCH_CHECK(large.scalar_type() == little.scalar_type() && large.size(0) == little.size(0) &&
                      little.size(2) == small_size(large.size(2), py) &&
                      little.size(3) == small_size(large.size(3), px),
                  "gankern.winograd_strided_weight_gradient: small must have the dtype of large and the shape of its "
                  "convolution");
  const auto large_scale = small(large_scale_any, "large_scale", large.size(0) * large.size(1));
  const auto small_scale = small(small_scale_any, "small_scale", little.size(0) * little.size(1));
  WinogradStridedWeightGradientParams p{};
  p.tiles = {large.size(0), little.size(2), little.size(3), py, px};
  Tensor dw = torch::stable::new_empty(large, {little.size(1), large.size(1), 3, 3}, ScalarType::Float);
  if (large.size(0) == 0 || dw.numel() == 0) return torch::stable::zero_(dw);
  p.large = images(large, large_format), p.small = images(little, small_format);
  p.large_scale = pointer(large_scale), p.small_scale = pointer(small_scale);
  using namespace cpu;
  const WinogradGradientPlan plan(p.large.c, p.small.c);
  const WinogradStridedBlocks blocks(p);
  const auto [v, d] = GANKERN_CALL_BEST(winograd_strided_gradient_floats, p);
  const int64_t shared = plan.in_parts() ? 0 : v + d, parts = plan.parts_of(blocks.count());
  const bool at_once = blocks.count() == 1 && !plan.in_parts();
  p.v = kept_memory(shared + (at_once ? 0 : parts * plan.sums()));
  p.d = p.v + v;
  p.sums = p.v + shared;
  p.dw = static_cast<float*>(dw.mutable_data_ptr());
  if (plan.in_parts()) {
    parallel_for(0, parts, 1,
                 [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(winograd_strided_gradient_part, p, begin, end); });
  }
  for (int64_t block = 0; block < (plan.in_parts() ? 0 : blocks.count()); ++block) {
    parallel_for(0, plan.channel_units(), 1, [&](int64_t begin, int64_t end) {
      GANKERN_CALL_BEST(winograd_strided_gradient_transform, p, block, begin, end);
    });
    if (at_once) {
      parallel_for(0, plan.units(), 1, [&](int64_t begin, int64_t end) {
        GANKERN_CALL_BEST(winograd_strided_gradient_unit, p, begin, end);
      });
      return dw;
    }
    parallel_for(0, plan.products(), 1, [&](int64_t begin, int64_t end) {
      GANKERN_CALL_BEST(winograd_strided_gradient_multiply, p, block, begin, end);
    });
  }
  parallel_for(0, plan.rows(), 1,
               [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(winograd_strided_gradient_unpack, p, begin, end); });
  return dw;
}

STABLE_TORCH_LIBRARY_IMPL(gankern, CPU, m) {
  m.impl("winograd_strided", TORCH_BOX(&winograd_strided));
  m.impl("winograd_strided_conv2d", TORCH_BOX(&winograd_strided_conv2d));
  m.impl("winograd_strided_weight_gradient", TORCH_BOX(&winograd_strided_weight_gradient));
}

}  // namespace gankern::bind
#endif
