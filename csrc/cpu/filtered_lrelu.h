#pragma once

#include "../math/filtered_lrelu.h"
#include "simd.h"

// Planes [begin, end).
GANKERN_DECLARE_PER_LEVEL(void filtered_lrelu(const FilteredLreluParams& p, int64_t begin, int64_t end))
