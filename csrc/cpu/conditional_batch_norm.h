#pragma once

#include <algorithm>

#include "../math/conditional_batch_norm.h"
#include "simd.h"

// Work units [begin, end) of BatchNormUnits(p).count: a channel of all images (NCHW), or some rows of one image with
// all channels (channels_last). What a unit sums up does not depend on the threads.
//
// batch_norm_moments: partial[unit] = mean, sum of squared deviations: [2] (NCHW) or [2][C].
// batch_norm_sums: NCHW: sums[k][n][c]; channels_last: partial sums[unit][k][c].
GANKERN_DECLARE_PER_LEVEL(void batch_norm_moments(const BatchNormParams& p, double* partial, int64_t begin,
                                                  int64_t end);
                          void batch_norm_normalise(const BatchNormParams& p, int64_t begin, int64_t end);
                          void batch_norm_sums(const BatchNormBackwardParams& p, double* sums, int64_t begin,
                                               int64_t end);
                          void batch_norm_combine(const BatchNormBackwardParams& p, int64_t begin, int64_t end))

namespace gankern::cpu {

struct BatchNormUnits {
  int64_t count, per_image, rows;  // channels_last: `rows` rows of pixels to a unit

  explicit BatchNormUnits(const BatchNormParams& p) {
    const int64_t wanted = std::clamp<int64_t>(64 / std::max<int64_t>(p.n, 1), 1, p.h);
    rows = (p.h + wanted - 1) / wanted;
    per_image = (p.h + rows - 1) / rows;
    count = p.channels_last ? p.n * per_image : p.c;
  }
};

// Mean and sum of squared deviations of more and more numbers (Chan, Golub, LeVeque 1979).
struct Moments {
  double count = 0, mean = 0, m2 = 0;

  void add(double other_count, double other_mean, double other_m2) {
    const double total = count + other_count, delta = other_mean - mean;
    if (total == 0) return;
    mean += delta * (other_count / total);
    m2 += other_m2 + delta * delta * (count * other_count / total);
    count = total;
  }
};

}  // namespace gankern::cpu
