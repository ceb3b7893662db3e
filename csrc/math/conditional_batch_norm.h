// conditional_batch_norm: parameters and formulas. y = up(act(gain * (x - mean) * rstd + bias)), gain and bias [N, C].
//
// g is the gradient of gain * xhat + bias: dy summed over the pixels of an upsampled one, zero where relu cut off.
// With xhat = (x - mean) * rstd and M numbers per channel, of which `means` are averages,
//   dx = rstd * (gain g - mean(gain g) - xhat * mean(gain g xhat)),   dgain = sum(g xhat),   dbias = sum(g).
#pragma once

#include "numeric.h"

namespace gankern {

struct BatchNormParams {
  DType dtype;
  bool channels_last, relu;
  int up;  // 1 or 2
  int64_t n, c, h, w;
  const void* x;
  const void *gain, *bias;  // [N, C] in the arithmetic type, as all that follow
  const void *mean, *rstd;  // [C]
  void* y;
};

// First order: dx and the sums. Second order: the gradients of sum(ddx dx) + sum(ddgain dgain) + sum(ddbias dbias).
struct BatchNormBackwardParams : BatchNormParams {
  bool second;
  const void* dy;
  const void *ddx, *ddgain, *ddbias;  // as x, [N, C], [N, C]; second order only
  void* grad_x;                       // dx in first order
  void* grad_dy;                      // second order only
  double* means;                      // [first order: 2, second: 7][C], see BatchNormMean; zero in evaluation
};

// sums[k][n][c] over the pixels
enum BatchNormSum { kSumG, kSumGX, kFirstOrderSums, kSumH = 2, kSumHX, kSumGH, kSecondOrderSums };

// means[k][c] over the samples and pixels
enum BatchNormMean {
  kMeanGainG,
  kMeanGainGX,
  kFirstOrderMeans,
  kMeanH = 2,
  kMeanHX,
  kMeanGainGH,
  kMeanPG,
  kMeanPGX,
  kSecondOrderMeans
};

// grad_x = g * g_ + h * h_ + (x - mean) * x_ + one, and g's cotangent = h * g_h + (x - mean) * g_x + g_one.
template <typename A>
struct BatchNormCoefficients {
  A g, h, x, one, g_h, g_x, g_one;
};

template <typename A>
BatchNormCoefficients<A> batch_norm_first_order(double gain, double rstd, const double* means, int64_t c) {
  const double mean_v = means[0], mean_vx = means[c];
  return {A(rstd * gain), A(0), A(-rstd * rstd * mean_vx), A(-rstd * mean_v), A(0), A(0), A(0)};
}

// `means` points to those of one channel, c apart; h is ddx, p ddgain and q ddbias. xhat and rstd depend on x too:
// with e = -rstd mean(gain g xhat) h + (p - rstd mean(h xhat) gain) g, the derivative by xhat at constant rstd,
//   grad_x = rstd (e - mean(e) - xhat mean(e xhat)) - rstd^2 xhat (mean(gain g h) - mean(h) mean(gain g)
//            - mean(h xhat) mean(gain g xhat)).
template <typename A>
BatchNormCoefficients<A> batch_norm_second_order(double gain, double rstd, double p, double q, const double* means,
                                                 int64_t c) {
  const auto mean = [&](BatchNormMean k) { return means[k * c]; };
  const double e_h = -rstd * mean(kMeanGainGX), e_g = p - rstd * mean(kMeanHX) * gain;
  const double mean_e = e_h * mean(kMeanH) + mean(kMeanPG) - rstd * mean(kMeanHX) * mean(kMeanGainG);
  const double mean_ex = e_h * mean(kMeanHX) + mean(kMeanPGX) - rstd * mean(kMeanHX) * mean(kMeanGainGX);
  const double of_rstd = mean(kMeanGainGH) - mean(kMeanH) * mean(kMeanGainG) - mean(kMeanHX) * mean(kMeanGainGX);
  return {A(rstd * e_g),
          A(rstd * e_h),
          A(-rstd * rstd * (mean_ex + rstd * of_rstd)),
          A(-rstd * mean_e),
          A(gain * rstd),
          A((p - gain * rstd * mean(kMeanHX)) * rstd),
          A(q - gain * rstd * mean(kMeanH))};
}

}  // namespace gankern
