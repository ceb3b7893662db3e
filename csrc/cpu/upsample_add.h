#pragma once

#include "../math/upsample_add.h"
#include "simd.h"

// Rows [begin, end) of the result, all images and (unless channels_last) channels counted through.
GANKERN_DECLARE_PER_LEVEL(void upsample_add(const UpsampleAddParams& p, int64_t begin, int64_t end))
