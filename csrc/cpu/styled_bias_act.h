#pragma once

#include <algorithm>

#include "../math/styled_bias_act.h"
#include "simd.h"

// Work units [begin, end) of StyledUnits(p.shape).
GANKERN_DECLARE_PER_LEVEL(void styled_bias_act(const StyledBiasActParams& p, int64_t begin, int64_t end);
                          void styled_bias_act_backward(const StyledBiasActBackwardParams& p, int64_t begin,
                                                        int64_t end);
                          void styled_bias_act_backward_backward(const StyledBiasActBackwardBackwardParams& p,
                                                                 int64_t begin, int64_t end))

namespace gankern::cpu {

// The memory in units that each write their own part of every sum, so the sums do not depend on the threads: planes,
// or blocks of a sample's pixels if channels_last.
struct StyledUnits {
  int64_t per_sample, channels, pixels;  // channels and pixels of a unit
  int64_t parts;                         // of each channel's sum over a sample's pixels
  int64_t count;

  explicit StyledUnits(const StyledShape& s) {
    if (s.channels_last) {
      const int64_t most = 1 + 64 / s.samples, least_pixels = 1 + 32768 / s.channels;
      channels = s.channels;
      pixels = std::max((s.pixels + most - 1) / most, std::min(least_pixels, s.pixels));
      parts = per_sample = (s.pixels + pixels - 1) / pixels;
    } else {
      channels = 1, pixels = s.pixels;
      parts = 1, per_sample = s.channels;
    }
    count = s.samples * per_sample;
  }
};

}  // namespace gankern::cpu
