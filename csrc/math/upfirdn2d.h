// upfirdn2d: parameters and index arithmetic. y[o] = gain * sum_k g[k] x[(o * down - pad + k) / up], where that
// divides.
#pragma once

#include "numeric.h"

namespace gankern {

constexpr int kMaxTaps = 128;   // an axis
constexpr int kMaxScale = 128;  // up or down, an axis

struct UpFirDn2dParams {
  DType dtype;
  const void* x;   // [n, c, in_h, in_w], strides in elements below
  const float* f;  // [taps_y, taps_x], or [taps_x] applied along both axes where `separable`
  void* y;         // [n, c, out_h, out_w], dense: [n, h, w, c] if channels_last, else [n, c, h, w]
  int64_t n, c, in_h, in_w, out_h, out_w;
  int64_t stride_n, stride_c, stride_h, stride_w;
  bool channels_last;
  bool separable;
  int taps_x, taps_y;
  int up_x, up_y, down_x, down_y;
  int64_t pad_x, pad_y;  // before; negative crops
  bool flip;             // g[k] = f[k] if flipped, f[taps - 1 - k] if not
  double gain;
};

// Which samples make output o along one axis: taps first, first + up, ... meet samples sample, sample + 1, ...
struct Phase {
  int first;
  int64_t sample;
};

GANKERN_HD Phase phase_of(int64_t o, int up, int down, int64_t pad) {
  const int64_t t = o * down - pad;
  const int64_t sample = t >= 0 ? (t + up - 1) / up : -((-t) / up);  // ceil(t / up)
  return {int(sample * up - t), sample};
}

}  // namespace gankern
