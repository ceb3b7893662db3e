#pragma once

#include "../math/numeric.h"
#include "simd.h"

namespace gankern::cpu {

// One weight W [rows, columns] and its vectors in the arithmetic type: u [rows], v [columns], and a product of W with
// one of them, not yet normalised, in `product` [max(rows, columns)].
struct SpectralLayer {
  int64_t rows, columns;
  const void* w;
  void* u;
  void* v;
  void* product;
  void* y;         // W / sigma, or in the backward pass the gradient of W
  const void* dy;  // of the backward pass
  double sigma;
  double r;  // of the backward pass: sum of dy * y, less sigma * dsigma
};

// A unit of work: rows, or columns, [begin, end) of a layer.
struct SpectralUnit {
  int32_t layer;
  int32_t index;  // among all units
  int64_t begin, end;
};

}  // namespace gankern::cpu

// spectral_columns: product[c] = sum of u[o] * W[o][c] over o, for a unit of columns.
// spectral_rows: product[o] = sum of W[o][c] * v[c] over c, for a unit of rows.
// spectral_normalise: v (or u) = product / max(|product|, eps); returns the product of both, sigma.
// spectral_dot: u * product, sigma of vectors that stay as they are.
// spectral_scale: y = W / sigma, for a unit of rows.
// spectral_backward_dot: the sum of dy * W over a unit of rows, W being the normalised weight.
// spectral_backward: y = (dy - r * u v^T) / sigma, for a unit of rows.
GANKERN_DECLARE_PER_LEVEL(void spectral_columns(DType dtype, const SpectralLayer& layer, const SpectralUnit& unit);
                          void spectral_rows(DType dtype, const SpectralLayer& layer, const SpectralUnit& unit);
                          double spectral_normalise(DType dtype, const SpectralLayer& layer, bool of_u, double eps);
                          double spectral_dot(DType dtype, const SpectralLayer& layer);
                          void spectral_scale(DType dtype, const SpectralLayer& layer, const SpectralUnit& unit);
                          double spectral_backward_dot(DType dtype, const SpectralLayer& layer,
                                                       const SpectralUnit& unit);
                          void spectral_backward(DType dtype, const SpectralLayer& layer, const SpectralUnit& unit))
