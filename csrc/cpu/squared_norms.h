#pragma once

#include "../math/squared_norms.h"
#include "simd.h"

// Pieces [begin, end), counted through the samples. The sum of each goes to partial[piece].
GANKERN_DECLARE_PER_LEVEL(void squared_norms(const SquaredNormsParams& p, double* partial, int64_t begin, int64_t end);
                          void squared_norms_backward(const SquaredNormsParams& p, int64_t begin, int64_t end))
