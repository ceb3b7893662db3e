// Number types of the kernels, and elementary functions that compilers can vectorise. No torch.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define GANKERN_HD __host__ __device__ __forceinline__
#else
#define GANKERN_HD inline __attribute__((always_inline))
#endif

namespace gankern {

enum class DType { f64, f32, bf16, f16 };

// Storage of the 16-bit types on the host; arithmetic is in float.
struct bfloat16 {
  uint16_t bits;
};
struct float16 {
  uint16_t bits;
};

template <typename T>
struct Arithmetic {
  using type = float;
};
template <>
struct Arithmetic<double> {
  using type = double;
};
template <typename T>
using arithmetic_t = typename Arithmetic<T>::type;

namespace bits {

GANKERN_HD float as_float(uint32_t u) {
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

GANKERN_HD uint32_t as_bits(float f) {
  uint32_t u;
  memcpy(&u, &f, sizeof u);
  return u;
}

}  // namespace bits

GANKERN_HD double load(double v) {
  return v;
}
GANKERN_HD float load(float v) {
  return v;
}
GANKERN_HD float load(bfloat16 v) {
  return bits::as_float(uint32_t(v.bits) << 16);
}

// Shifting exponent and mantissa into place leaves the exponent 112 too small, also for subnormal numbers.
GANKERN_HD float load(float16 v) {
  const uint32_t magnitude = uint32_t(v.bits & 0x7fffu) << 13;
  const float scaled = bits::as_float(magnitude) * 0x1p112f;
  const uint32_t special = bits::as_bits(scaled) | 0x7f800000u;
  const uint32_t value = magnitude >= 0x0f800000u ? special : bits::as_bits(scaled);
  return bits::as_float(value | uint32_t(v.bits & 0x8000u) << 16);
}

GANKERN_HD void store(double& to, double v) {
  to = v;
}
GANKERN_HD void store(float& to, float v) {
  to = v;
}

// Round to nearest, ties to even; NaN stays NaN.
GANKERN_HD void store(bfloat16& to, float v) {
  const uint32_t u = bits::as_bits(v);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  to.bits = uint16_t((u & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

// Round to nearest, ties to even: normal numbers by integer arithmetic, subnormal ones by adding 0.5, whose unit in
// the last place is that of a subnormal half.
GANKERN_HD void store(float16& to, float v) {
  const uint32_t u = bits::as_bits(v);
  const uint32_t magnitude = u & 0x7fffffffu;
  const uint32_t normal = (magnitude - 0x38000000u + 0x0fffu + ((magnitude >> 13) & 1u)) >> 13;
  const uint32_t subnormal = bits::as_bits(bits::as_float(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
  to.bits = uint16_t((magnitude >= 0x477ff000u ? special : finite) | (u >> 16 & 0x8000u));
}

// x = n ln 2 + r with |r| <= ln 2 / 2, and exp(r) - 1 by its series, for x in [-100, 100]; without branches, so that
// compilers vectorise it.
struct ExpParts {
  int32_t n;
  float expm1_r;
};

GANKERN_HD ExpParts exp_parts(float x) {
  const float shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the mantissa's low bits are round(x / ln 2)
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  return {int32_t(bits::as_bits(shifted) - 0x4b400000u), p * r * r + r};
}

GANKERN_HD float power_of_2(int32_t n) {
  return bits::as_float(uint32_t(n + 127) << 23);
}  // n in [-126, 127]

// exp(x) to 2 units in the last place; overflows to inf, and to 0 below exp(-100). NaN stays NaN.
GANKERN_HD float exp_fast(float x) {
  x = x > 100.0f ? 100.0f : x;
  x = x < -100.0f ? -100.0f : x;
  const ExpParts e = exp_parts(x);
  const int32_t half = e.n >> 1;
  return (1.0f + e.expm1_r) * power_of_2(half) * power_of_2(e.n - half);
}

// exp(x) - 1 to 2 units in the last place, for x up to 88.
GANKERN_HD float expm1_fast(float x) {
  x = x > 88.0f ? 88.0f : x;
  x = x < -80.0f ? -80.0f : x;
  const ExpParts e = exp_parts(x);
  const float scale = power_of_2(e.n);
  return scale * e.expm1_r + (scale - 1.0f);
}

// log(1 + z) for z in [0, 1], by 2 atanh(z / (2 + z)).
GANKERN_HD float log1p_fast(float z) {
  const float t = z / (2.0f + z);
  const float s = t * t;
  float p = 1.0f / 15;
  p = p * s + 1.0f / 13;
  p = p * s + 1.0f / 11;
  p = p * s + 1.0f / 9;
  p = p * s + 1.0f / 7;
  p = p * s + 1.0f / 5;
  p = p * s + 1.0f / 3;
  return 2.0f * (p * s * t + t);
}

GANKERN_HD double expm1_fast(double x) {
  return ::expm1(x);
}
GANKERN_HD double exp_fast(double x) {
  return ::exp(x);
}
GANKERN_HD double log1p_fast(double z) {
  return ::log1p(z);
}

}  // namespace gankern
