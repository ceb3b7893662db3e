// minibatch_stddev: where the samples, their channels and the appended channels lie in memory.
#pragma once

#include "numeric.h"

namespace gankern {

constexpr double kStddevEps = 1e-8;

// Sample number i of x is [outer, channels, inner] in memory: one row in NCHW, a row for each pixel in channels_last.
// In y, and in its gradient, the rows of `channels * inner` are `row` elements apart, and the appended channel f is at
// pixel p in appended + f * appended_channel + p * appended_pixel.
struct MinibatchStddevParams {
  DType dtype;
  int64_t groups, members, channels;  // N / g, g, F
  int64_t outer, inner, pixels, row;
  int64_t appended, appended_channel, appended_pixel;
  bool contiguous;  // the members of a group are neighbours
  double divisor;   // of the sum of squares: g, or g - 1 if unbiased
  const void* x;
  const void* ddx;  // of the second derivative
  const void* dy;   // of the derivatives
  void* dx;         // or the gradient of x in the second derivative
  void* y;          // or the gradient of dy in the second derivative

  GANKERN_HD int64_t sample(int64_t group, int64_t member) const {
    return contiguous ? group * members + member : member * groups + group;
  }
  GANKERN_HD int64_t size() const { return outer * channels * inner; }
  GANKERN_HD int64_t size_with_appended() const { return size() + channels * pixels; }
  GANKERN_HD double count() const { return double(outer) * double(inner); }  // averaged into one number
};

}  // namespace gankern
