// grid_sample: Tensor -> parameters, for the CPU.
#ifndef USE_CUDA

#include "../cpu/grid_sample.h"

#include <limits>
#include <optional>
#include <tuple>

#include "tensor.h"

namespace gankern::bind {

namespace {

Tensor empty_images(const Tensor& like, int64_t h, int64_t w, bool channels_last) {
  return torch::stable::empty({like.size(0), like.size(1), h, w}, like.scalar_type(), std::nullopt, like.device(),
                              std::nullopt, format_of(channels_last));
}

// What forward and backward share: `images` are x or dy, the image size is that of x.
GridSampleParams parameters(const char* op, const Tensor& images, const Tensor& grid, int64_t h, int64_t w,
                            bool channels_last, bool align_corners) {
  STD_TORCH_CHECK(images.dim() == 4, "gankern.", op, ": images must have 4 dimensions [N, C, H, W]");
  STD_TORCH_CHECK(grid.dim() == 4 && grid.size(0) == images.size(0) && grid.size(3) == 2, "gankern.", op,
                  ": grid must have shape [N, h, w, 2] with N = ", images.size(0));
  constexpr int64_t largest = std::numeric_limits<int32_t>::max() - 2;
  STD_TORCH_CHECK(h >= 1 && w >= 1 && h <= largest && w <= largest, "gankern.", op,
                  ": an image must have sides in [1, 2^31 - 3], got [", h, ", ", w, "]");
  GridSampleParams p{};
  p.dtype = dtype_of(images, op, "x");
  p.grid_dtype = dtype_of(grid, op, "grid");
  p.grid = grid.const_data_ptr();
  p.n = images.size(0), p.c = images.size(1), p.in_h = h, p.in_w = w;
  p.points = grid.size(1) * grid.size(2);
  p.channels_last = channels_last, p.align_corners = align_corners;
  return p;
}

// Units that are worth a thread's while, of `units` units with `work` sampled numbers in all.
int64_t grain_of(int64_t units, int64_t work) {
  return 1 + 8192 * units / (work + 1);
}

}  // namespace

Tensor grid_sample(const Tensor x_any, const Tensor grid_any, bool align_corners) {
  STD_TORCH_CHECK(x_any.dim() == 4, "gankern.grid_sample: x must have 4 dimensions [N, C, H, W], got ", x_any.dim());
  const bool channels_last = is_channels_last(x_any);
  const Tensor x = torch::stable::contiguous(x_any, format_of(channels_last));
  const Tensor grid = torch::stable::contiguous(grid_any);
  GridSampleParams p = parameters("grid_sample", x, grid, x.size(2), x.size(3), channels_last, align_corners);
  Tensor y = empty_images(x, grid.size(1), grid.size(2), channels_last);
  if (y.numel() == 0) return y;
  p.x = x.const_data_ptr();
  p.y = y.mutable_data_ptr();
  using namespace cpu;
  const int64_t units = p.n * grid_blocks(p);
  parallel_for(0, units, grain_of(units, y.numel()),
               [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(grid_sample, p, begin, end); });
  return y;
}

std::tuple<Tensor, Tensor> grid_sample_backward(const Tensor dy_any, const std::optional<Tensor> x_any,
                                                const Tensor grid_any, int64_t h, int64_t w, bool channels_last,
                                                bool align_corners, bool input_gradient) {
  const char* op = "grid_sample_backward";
  const Tensor grid = torch::stable::contiguous(grid_any);
  GridSampleParams p = parameters(op, dy_any, grid, h, w, channels_last, align_corners);
  STD_TORCH_CHECK(dy_any.size(2) == grid.size(1) && dy_any.size(3) == grid.size(2),
                  "gankern.grid_sample_backward: dy must have the height and width of grid");
  const Tensor dy = torch::stable::contiguous(dy_any, format_of(channels_last));
  Tensor dx = input_gradient ? empty_images(dy, h, w, channels_last) : torch::stable::new_empty(dy, {0});
  Tensor dgrid = x_any.has_value() ? torch::stable::empty_like(grid) : torch::stable::new_empty(grid, {0});
  p.dy = dy.const_data_ptr();
  using namespace cpu;
  if (dx.numel() > 0) {
    p.dx = dx.mutable_data_ptr();
    const int64_t units = p.n * grid_groups(p);
    parallel_for(0, units, grain_of(units, dy.numel()),
                 [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(grid_sample_input_gradient, p, begin, end); });
  }
  if (dgrid.numel() > 0) {
    STD_TORCH_CHECK(x_any->dim() == 4 && x_any->size(0) == p.n && x_any->size(1) == p.c && x_any->size(2) == h &&
                        x_any->size(3) == w && x_any->scalar_type() == dy.scalar_type(),
                    "gankern.grid_sample_backward: x must have the dtype of dy and shape [", p.n, ", ", p.c, ", ", h,
                    ", ", w, "]");
    const Tensor x = torch::stable::contiguous(*x_any, format_of(channels_last));
    p.x = x.const_data_ptr();
    p.dgrid = dgrid.mutable_data_ptr();
    const int64_t units = p.n * grid_blocks(p);
    parallel_for(0, units, grain_of(units, dy.numel()),
                 [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(grid_sample_grid_gradient, p, begin, end); });
  }
  return {dx, dgrid};
}

STABLE_TORCH_LIBRARY_IMPL(gankern, GANKERN_DEVICE, m) {
  m.impl("grid_sample", TORCH_BOX(&grid_sample));
  m.impl("grid_sample_backward", TORCH_BOX(&grid_sample_backward));
}

}  // namespace gankern::bind

#endif
