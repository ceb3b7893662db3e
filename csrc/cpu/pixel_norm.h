#pragma once

#include <algorithm>

#include "../math/pixel_norm.h"
#include "simd.h"

// Work units [begin, end) of PixelNormUnits(p), for order 0, 1 or 2.
GANKERN_DECLARE_PER_LEVEL(void pixel_norm(const PixelNormParams& p, int order, int64_t begin, int64_t end))

namespace gankern::cpu {

// A unit is one row of channels where they are neighbours, else all channels of a few neighbouring positions.
struct PixelNormUnits {
  int64_t width, across, count, elements;

  explicit PixelNormUnits(const PixelNormParams& p)
      : width(p.inner == 1 ? 1 : std::clamp<int64_t>(32768 / p.channels, 64, 1024) / 16 * 16),
        across((p.inner + width - 1) / width),
        count(p.outer * across),
        elements(width * p.channels) {}
};

}  // namespace gankern::cpu
