// attention: parameters. y = softmax(scale * q k^T) v, of float32.
#pragma once

#include "numeric.h"

namespace gankern {

struct AttentionParams {
  const float *q, *k, *v;   // [n, l, d], [n, s, d], [n, s, e]
  const float* dy;          // [n, l, e]; null forward
  float *y, *dq, *dk, *dv;  // of the shapes of dy, q, k, v
  float* partial;           // sums of the gradients of k and v: of each part of the queries
  int64_t n, l, s, d, e;
  float scale;
};

}  // namespace gankern
