#pragma once

#include "../math/bias_act.h"
#include "simd.h"

// bias_act: elements [begin, end) of the flattened memory.
// bias_act_backward: work units [begin, end) of bias_act_units(p). A unit covers whole channels rows or one plane, and
// writes its part of the bias gradient to partial[unit][channel], so the sum does not depend on the threads.
GANKERN_DECLARE_PER_LEVEL(void bias_act(const BiasActParams& p, int64_t begin, int64_t end);
                          void bias_act_backward(const BiasActBackwardParams& p, double* partial, int64_t begin,
                                                 int64_t end))

namespace gankern::cpu {

// The backward's memory in units: planes [outer * channels] if inner > 1, else blocks of rows of channels.
struct BiasActUnits {
  bool planes;
  int64_t count;
  int64_t rows;  // rows of channels in a block
  int64_t channels_per_unit;

  explicit BiasActUnits(const BiasActBackwardParams& p)
      : planes(p.inner > 1), rows(1 + p.outer / 64), channels_per_unit(planes ? 1 : p.channels) {
    count = planes ? p.outer * p.channels : (p.outer + rows - 1) / rows;
  }
};

}  // namespace gankern::cpu
