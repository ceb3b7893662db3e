#pragma once

#include "../math/fade.h"
#include "simd.h"

// Units [begin, end) of p.units().
GANKERN_DECLARE_PER_LEVEL(void fade(const FadeParams& p, int64_t begin, int64_t end))
