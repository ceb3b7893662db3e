// style_epilogue: parameters and formulas.
//   u = x + strength * noise + b,  a = u * (u > 0 ? gain : gain * alpha),  z = (a - mean) * rstd,
//   y = scale * z + shift, with the mean and the biased variance of a over the pixels of one channel of one image.
#pragma once

#include "numeric.h"

namespace gankern {

// Order 0 is the op, order 1 its backward, order 2 the backward of that. All but x, dy, ddx and `out` is of the
// arithmetic type; what may be absent is null.
struct StyleEpilogueParams {
  DType dtype;
  const void* x;
  const void* dy;
  const void* ddx;
  const void* noise;              // [1 or images, pixels]
  const void* strength;           // [1 or channels]
  const void* b;                  // [channels]
  const void *scale, *shift;      // [images, channels], like all that follow
  const void *ddscale, *ddshift;  // gradients to dscale and dshift
  void *mean, *rstd;              // written by order 0
  void *dscale, *dshift;          // of order 1; the gradient to scale of order 2
  void *total, *noise_total;      // sums over the pixels of the gradient to x, and of its product with the noise
  void* out[2];                   // y | dx | ddy and the gradient to x
  int64_t images, channels, pixels;
  bool channels_last;
  bool noise_each, strength_each;  // one per image, one per channel
  double alpha, gain, eps;
};

// dx = slope * k * (dy - mean_dy - z * mean_dy_z)
struct StyleEpilogueBackward {
  double k, mean_dy, mean_dy_z;

  StyleEpilogueBackward(double scale, double rstd, double dy, double dy_z, int64_t pixels)
      : k(scale * rstd), mean_dy(dy / double(pixels)), mean_dy_z(dy_z / double(pixels)) {}
};

// With h = ddx * slope:
//   ddy         = k * (h - mean_h) + ddy_z * z + ddshift
//   gradient(x) = slope * (x_dy * (dy - mean_dy) + x_h * (h - mean_h) + x_z * z)
struct StyleEpilogueBackwardBackward {
  double k, mean_dy, mean_h, ddy_z, x_dy, x_h, x_z, grad_scale;

  // Sums over the pixels of dy, dy * z, h, h * z and h * dy.
  StyleEpilogueBackwardBackward(double scale, double rstd, double ddscale, const double* sums, int64_t pixels) {
    const double n = double(pixels), dy_z = sums[1] / n, h_z = sums[3] / n;
    k = scale * rstd;
    mean_dy = sums[0] / n;
    mean_h = sums[2] / n;
    const double rest = sums[4] / n - mean_dy * mean_h - dy_z * h_z;
    ddy_z = ddscale - k * h_z;
    x_dy = rstd * ddy_z;
    x_h = -k * rstd * dy_z;
    x_z = -k * rstd * (rest - 2 * dy_z * h_z) - ddscale * rstd * dy_z;
    grad_scale = rstd * n * rest;
  }
};

}  // namespace gankern
