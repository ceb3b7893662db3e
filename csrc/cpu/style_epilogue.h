#pragma once

#include <algorithm>

#include "../math/style_epilogue.h"
#include "simd.h"

// Work units [begin, end) of StyleEpilogueUnits(p), for order 0, 1 or 2.
GANKERN_DECLARE_PER_LEVEL(void style_epilogue(const StyleEpilogueParams& p, int order, int64_t begin, int64_t end))

namespace gankern::cpu {

// A unit is one plane, or some neighbouring channels of one image in channels_last; either way its memory is rows of
// `kLanes` neighbours, and no two units share a statistic.
struct StyleEpilogueUnits {
  static constexpr int64_t kLanes = 64;
  int64_t per_image, count;

  explicit StyleEpilogueUnits(const StyleEpilogueParams& p)
      : per_image(p.channels_last ? (p.channels + kLanes - 1) / kLanes : p.channels), count(p.images * per_image) {}
};

}  // namespace gankern::cpu
