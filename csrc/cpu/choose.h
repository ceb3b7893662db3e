// From a run-time type or activation to the template that is made for it.
#pragma once

#include "../math/bias_act.h"

namespace gankern::cpu::GANKERN_SIMD {

// Calls body.template operator()<act>().
template <typename Body>
void for_activation(Activation act, const Body& body) {
  switch (act) {
#define GANKERN_CASE(name) \
  case Activation::name:   \
    return body.template operator()<Activation::name>();
    GANKERN_CASE(linear)
    GANKERN_CASE(relu)
    GANKERN_CASE(lrelu)
    GANKERN_CASE(tanh)
    GANKERN_CASE(sigmoid)
    GANKERN_CASE(elu)
    GANKERN_CASE(selu)
    GANKERN_CASE(softplus)
    GANKERN_CASE(swish)
#undef GANKERN_CASE
    default:
      return;
  }
}

// Calls body.template operator()<T>().
template <typename Body>
void for_type(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::f64:
      return body.template operator()<double>();
    case DType::f32:
      return body.template operator()<float>();
    case DType::bf16:
      return body.template operator()<bfloat16>();
    case DType::f16:
      return body.template operator()<float16>();
  }
}

// Calls body.template operator()<flags...>().
template <bool... known, typename Body>
void for_flags(const Body& body) {
  body.template operator()<known...>();
}
template <bool... known, typename Body, typename... More>
void for_flags(const Body& body, bool flag, More... more) {
  if (flag) {
    for_flags<known..., true>(body, more...);
  } else {
    for_flags<known..., false>(body, more...);
  }
}

}  // namespace gankern::cpu::GANKERN_SIMD
