// pixel_norm: parameters and formulas. y = r * x with r = 1 / sqrt(mean(x^2) + eps), the mean over the channels.
#pragma once

#include "numeric.h"

namespace gankern {

// Dense memory seen as [outer, channels, inner]. Order 0 is the op, order 1 its backward, order 2 the backward of that:
// order 0: x -> y;  order 1: x, dy -> dx;  order 2: x, dy, ddx -> ddy and the gradient of x.
struct PixelNormParams {
  DType dtype;
  const void* in[3];
  void* out[2];
  int64_t outer, channels, inner;
  double eps;
};

// With sums over the channels of x^2, x*dy, x*ddx and dy*ddx (as many as the order needs), the results are sums of the
// inputs times these coefficients.
template <typename A>
struct PixelNormCoefficients {
  A r, of_x, of_dy, of_ddx;
};

template <int order>
PixelNormCoefficients<double> pixel_norm_coefficients(const double* sums, int64_t channels, double eps) {
  const double n = 1 / double(channels), r = 1 / std::sqrt(sums[0] * n + eps), cube = r * r * r;
  PixelNormCoefficients<double> k{r, 0, 0, 0};
  if constexpr (order == 1) k.of_x = -cube * sums[1] * n;
  if constexpr (order == 2) {
    k.of_x = cube * (3 * r * r * sums[1] * n * sums[2] * n - sums[3] * n);
    k.of_dy = -cube * sums[2] * n;
    k.of_ddx = -cube * sums[1] * n;
  }
  return k;
}

}  // namespace gankern
