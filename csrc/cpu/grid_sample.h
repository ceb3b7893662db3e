#pragma once

#include "../math/grid_sample.h"
#include "simd.h"

// grid_sample and its gradient for the grid: blocks [begin, end) of points, all images' blocks counted through.
// Its gradient for x: groups [begin, end) of channels, all images' groups counted through. Every pixel is the sum over
// the points in their order, whatever the threads.
GANKERN_DECLARE_PER_LEVEL(void grid_sample(const GridSampleParams& p, int64_t begin, int64_t end);
                          void grid_sample_grid_gradient(const GridSampleParams& p, int64_t begin, int64_t end);
                          void grid_sample_input_gradient(const GridSampleParams& p, int64_t begin, int64_t end))

namespace gankern::cpu {

constexpr int64_t kGridBlock = 256;  // points

inline int64_t grid_blocks(const GridSampleParams& p) {
  return (p.points + kGridBlock - 1) / kGridBlock;
}

inline int64_t grid_group(const GridSampleParams& p) {
  return p.channels_last ? 64 : 4;
}

inline int64_t grid_groups(const GridSampleParams& p) {
  return (p.c + grid_group(p) - 1) / grid_group(p);
}

}  // namespace gankern::cpu
