#pragma once

#include "../math/upfirdn2d.h"
#include "simd.h"

// Rows [begin, end) of the result, all images and (unless channels_last) channels counted through.
GANKERN_DECLARE_PER_LEVEL(void upfirdn2d(const UpFirDn2dParams& p, int64_t begin, int64_t end))
