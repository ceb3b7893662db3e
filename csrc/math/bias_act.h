// bias_act: parameters and formula. y = clamp(gain * f(x + b)).
#pragma once

#include <string_view>

#include "numeric.h"

namespace gankern {

enum class Activation { linear, relu, lrelu, tanh, sigmoid, elu, selu, softplus, swish, unknown };

inline Activation activation_from(std::string_view name) {
  constexpr std::string_view names[] = {"linear", "relu", "lrelu",    "tanh", "sigmoid",
                                        "elu",    "selu", "softplus", "swish"};
  int i = 0;
  for (auto candidate : names) {
    if (candidate == name) return Activation(i);
    ++i;
  }
  return Activation::unknown;
}

// Dense memory seen as [outer, channels, inner], channels being the dimension of the bias; 1 channel without bias.
struct BiasActParams {
  DType dtype;
  DType bias_dtype;  // that of b
  const void* x;
  const void* b;  // null without bias
  void* y;
  int64_t outer, channels, inner;
  Activation act;
  double alpha, gain, clamp;  // clamp < 0: none
};

// dx = dy * slope, and the bias gradient db[c] = sum of dx over outer and inner.
struct BiasActBackwardParams {
  DType dtype;
  DType bias_dtype;
  const void* dy;
  const void* ref;  // y, or x where `from_input`; null for linear without clamp
  const void* b;    // only read where `from_input`
  void* dx;
  void* db;  // null: not wanted. double for f64, else float
  int64_t outer, channels, inner;
  Activation act;
  bool from_input;  // the slope follows from x + b (swish; lrelu with alpha < 0), otherwise from y
  double alpha, gain, clamp;
};

template <typename A>
struct BiasActConstants {
  A alpha, gain, inverse_gain, clamp;
  bool clamped;

  explicit BiasActConstants(double alpha_, double gain_, double clamp_)
      : alpha(A(alpha_)),
        gain(A(gain_)),
        inverse_gain(gain_ == 0 ? A(0) : A(1 / gain_)),
        clamp(A(clamp_)),
        clamped(clamp_ >= 0) {}
};

constexpr double kSeluAlpha = 1.6732632423543772, kSeluScale = 1.0507009873554805;

// f(u)
template <Activation act, typename A>
GANKERN_HD A activate(A u, A alpha) {
  if constexpr (act == Activation::relu) return u < A(0) ? A(0) : u;
  if constexpr (act == Activation::lrelu) return u > A(0) ? u : u * alpha;
  if constexpr (act == Activation::tanh) {
    const A bounded = u > A(20) ? A(20) : (u < A(-20) ? A(-20) : u);
    const A e = expm1_fast(A(2) * bounded);
    return e / (e + A(2));
  }
  if constexpr (act == Activation::sigmoid) return A(1) / (A(1) + exp_fast(-u));
  if constexpr (act == Activation::elu) return u > A(0) ? u : expm1_fast(u);
  if constexpr (act == Activation::selu) {
    return A(kSeluScale) * (u > A(0) ? u : A(kSeluAlpha) * expm1_fast(u));
  }
  if constexpr (act == Activation::softplus) {
    const A magnitude = u < A(0) ? -u : u;
    return (u > A(0) ? u : A(0)) + log1p_fast(exp_fast(-magnitude));
  }
  if constexpr (act == Activation::swish) return u / (A(1) + exp_fast(-u));
  return u;
}

// f'(u), from v = f(u), or from u itself where `from_input`
template <Activation act, bool from_input, typename A>
GANKERN_HD A slope(A v, A alpha) {
  if constexpr (act == Activation::relu) return v > A(0) ? A(1) : A(0);
  if constexpr (act == Activation::lrelu) return v > A(0) ? A(1) : alpha;
  if constexpr (act == Activation::tanh) return A(1) - v * v;
  if constexpr (act == Activation::sigmoid) return v * (A(1) - v);
  if constexpr (act == Activation::elu) return v < A(0) ? v + A(1) : A(1);
  if constexpr (act == Activation::selu) return v <= A(0) ? v + A(kSeluScale * kSeluAlpha) : A(kSeluScale);
  if constexpr (act == Activation::softplus) return -expm1_fast(-v);
  if constexpr (act == Activation::swish) {
    const A s = A(1) / (A(1) + exp_fast(-v));
    return s * (A(1) + v * (A(1) - s));
  }
  return A(1);
}

// y from u = x + b
template <Activation act, typename A>
GANKERN_HD A bias_act(A u, const BiasActConstants<A>& k) {
  const A y = activate<act>(u, k.alpha) * k.gain;
  if (!k.clamped) return y;
  return y > k.clamp ? k.clamp : (y < -k.clamp ? -k.clamp : y);  // NaN passes
}

// dx / dy from ref: y, or u = x + b where `from_input`
template <Activation act, bool from_input, typename A>
GANKERN_HD A bias_act_slope(A ref, const BiasActConstants<A>& k) {
  const A y = from_input ? activate<act>(ref, k.alpha) * k.gain : ref;
  const A v = from_input ? ref : ref * k.inverse_gain;
  const A s = slope<act, from_input>(v, k.alpha) * k.gain;
  const A magnitude = y < A(0) ? -y : y;
  return !k.clamped || magnitude < k.clamp ? s : A(0);
}

}  // namespace gankern
