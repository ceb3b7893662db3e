// styled_bias_act: parameters and formula. y = clamp(gain * f(scale * x + strength * noise + b)), with the activation
// of bias_act.
#pragma once

#include "bias_act.h"

namespace gankern {

// The large tensors' memory: [samples, channels, pixels], or [samples, pixels, channels] if channels_last.
struct StyledShape {
  DType dtype;
  int64_t samples, channels, pixels;
  bool channels_last;
};

// One number per sample and channel, of the arithmetic type: data[n * stride_n + c * stride_c]. Null: all `otherwise`.
struct ChannelNumbers {
  const void* data;
  int64_t stride_n, stride_c;
  double otherwise;
};

// One number per sample and pixel, of the arithmetic type. Null: none.
struct PixelNumbers {
  const void* data;
  int64_t stride_n;
};

struct StyledBiasActParams {
  StyledShape shape;
  const void* x;
  ChannelNumbers scale, strength, b;
  PixelNumbers noise;
  void* y;
  Activation act;
  double alpha, gain, clamp;  // clamp < 0: none
};

// du = dy * slope, dx = scale * du, and the sums over pixels of du times x, times noise, and of du.
struct StyledBiasActBackwardParams {
  StyledShape shape;
  const void* dy;
  const void* ref;  // y; null for linear without clamp
  const void* x;    // null: no sum_x
  // x is y. Then sum_x is of du times u: where y = slope * u, which holds for these activations, that is dy times y,
  // and nothing where the slope is 0.
  bool x_is_y;
  ChannelNumbers scale;
  PixelNumbers noise;  // null: no sum_noise
  void* dx;
  double *sum_x, *sum_noise, *sum_b;  // parts of the sums, [unit, channel]; null: not wanted
  Activation act;                     // linear, relu or lrelu with alpha >= 0
  double alpha, gain, clamp;
};

// Tangents ddx, dd_scale, dd_strength, dd_b of the backward's outputs: with w = scale * ddx + dd_scale * x +
// dd_strength * noise + dd_b, grad_dy = slope * w, grad_x = dd_scale * du, sum_scale = sum of ddx * du.
struct StyledBiasActBackwardBackwardParams {
  StyledShape shape;
  const void* dy;  // null: neither grad_x nor sum_scale
  const void* ref;
  const void* x;  // null: dd_scale is 0, no grad_x
  ChannelNumbers scale;
  PixelNumbers noise;  // null: dd_strength is 0
  const void* ddx;
  ChannelNumbers dd_scale, dd_strength, dd_b;
  void *grad_dy, *grad_x;
  double* sum_scale;
  Activation act;
  double alpha, gain, clamp;
};

// u, and with tangents instead of x, strength and b all but one term of its derivative
template <typename A>
GANKERN_HD A styled(A x, A scale, A noise, A strength, A b) {
  return x * scale + (noise * strength + b);
}

// The piecewise linear activations differ in their slope below zero: bias_act_slope<Activation::lrelu> serves all.
template <typename A>
BiasActConstants<A> piecewise_linear(Activation act, double alpha, double gain, double clamp) {
  const double below = act == Activation::linear ? 1 : act == Activation::relu ? 0 : alpha;
  return BiasActConstants<A>(below, gain, clamp);
}

}  // namespace gankern
