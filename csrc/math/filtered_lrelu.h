// filtered_lrelu: parameters. x -> up, fu -> middle: activation -> fd, down -> y.
#pragma once

#include "numeric.h"

namespace gankern {

constexpr int kMaxFusedTaps = 32;  // an axis
constexpr int kMaxFusedScale = 8;

// What the activation did to an element of the middle, as it is kept for the derivative.
enum Sign : uint8_t { clamped, positive, negative };

struct FusedFilter {
  const float* f;  // [taps_y, taps_x], or [taps_x] applied along both axes where `separable`
  bool separable;
  int taps_x, taps_y;
};

struct FilteredLreluParams {
  DType dtype;
  const void* x;   // [planes, in_h, in_w]
  const void* b;   // [channels] of the arithmetic type, or null
  void* y;         // [planes, out_h, out_w]
  double* sums;    // [planes], of y before it is rounded, or null
  uint8_t* signs;  // [planes, mid_h, mid_w], read or written; null to write none
  bool reads_signs;
  FusedFilter fu, fd;
  bool flip;
  int up, down;
  int64_t planes, channels, in_h, in_w, mid_h, mid_w, out_h, out_w;
  int64_t ux, uy;             // zeros before the upsampled image
  int64_t dx, dy;             // zeros before the middle; negative crops
  double gain, slope, clamp;  // gain includes up * up; clamp < 0: none
};

}  // namespace gankern
