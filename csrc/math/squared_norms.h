// squared_norms: parameters. Dense memory seen as [samples, size], in pieces whose partial sums do not depend on
// threads.
#pragma once

#include "numeric.h"

namespace gankern {

constexpr int64_t kNormPiece = 16384;  // elements

struct SquaredNormsParams {
  DType dtype;
  const void* x;
  const void* dy;  // of the backward: [samples], double for f64, else float
  void* dx;        // of the backward
  int64_t samples, size;

  int64_t pieces() const { return (size + kNormPiece - 1) / kNormPiece; }  // of a sample
};

}  // namespace gankern
