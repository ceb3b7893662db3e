// grid_sample: parameters, and where a point lies.
#pragma once

#include "numeric.h"

namespace gankern {

struct GridSampleParams {
  DType dtype, grid_dtype;
  const void* x;     // [n, c, in_h, in_w], dense: [n, h, w, c] if channels_last, else [n, c, h, w]; so is dx
  const void* grid;  // [n, points, 2], x before y
  const void* dy;    // [n, c, points], dense in the same way; so is y
  void* y;
  void* dx;
  void* dgrid;  // [n, points, 2], of grid_dtype
  int64_t n, c, in_h, in_w, points;
  bool channels_last, align_corners;
};

// A number of the grid is at pixel (number + 1) * scale - shift.
template <typename A>
struct GridAxis {
  A scale, shift;

  GridAxis(int64_t size, bool align_corners)
      : scale(A(align_corners ? size - 1 : size) / 2), shift(align_corners ? A(0) : A(0.5)) {}

  GANKERN_HD A position(A number) const { return (number + 1) * scale - shift; }
};

// floor(position) as an integer for every position: -2 for NaN and all below, `size` for all above.
template <typename A>
GANKERN_HD int32_t pixel_below(A floored, int64_t size) {
  const A above = A(size);
  const A bounded = floored > A(-2) ? floored : A(-2);
  return int32_t(bounded < above ? bounded : above);
}

}  // namespace gankern
