// One SIMD register of the arithmetic type, loaded from and stored to any storage type: whole, or lanes [first, last),
// the others being zero or left alone, without touching the memory behind them.
#pragma once

#include <utility>

#include "../math/numeric.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace gankern::cpu::GANKERN_SIMD {

// Portable: the compiler's vectors, element by element where the storage type differs.
template <typename A, int width>
struct Vector {
  static constexpr int size = width;
  typedef A Lanes __attribute__((vector_size(width * sizeof(A)), aligned(sizeof(A))));
  Lanes v;

  static Vector fill(A a) { return {Lanes{} + a}; }

  template <typename T>
  static Vector load(const T* from) {
    Vector r{};
    for (int i = 0; i < width; ++i) r.v[i] = gankern::load(from[i]);
    return r;
  }

  template <typename T>
  static Vector load(const T* from, int64_t first, int64_t last) {
    Vector r{};
    for (int i = 0; i < width; ++i) {
      if (i >= first && i < last) r.v[i] = gankern::load(from[i]);
    }
    return r;
  }

  template <typename T>
  void store(T* to) const {
    for (int i = 0; i < width; ++i) gankern::store(to[i], v[i]);
  }

  template <typename T>
  void store(T* to, int64_t first, int64_t last) const {
    for (int i = 0; i < width; ++i) {
      if (i >= first && i < last) gankern::store(to[i], v[i]);
    }
  }

  // this + a * b
  Vector plus(Vector a, Vector b) const { return {v + a.v * b.v}; }
};

#if defined(__AVX512F__)

template <>
struct Vector<float, 16> {
  static constexpr int size = 16;
  __m512 v;

  static __mmask16 lanes(int64_t first, int64_t last) {
    const uint32_t below = last >= 16 ? 0xffffu : last <= 0 ? 0u : (1u << last) - 1;
    const uint32_t skipped = first <= 0 ? 0u : first >= 16 ? 0xffffu : (1u << first) - 1;
    return __mmask16(below & ~skipped);
  }
  static Vector fill(float a) { return {_mm512_set1_ps(a)}; }

  static Vector load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vector load(const float* p, int64_t first, int64_t last) {
    return {_mm512_maskz_loadu_ps(lanes(first, last), p)};
  }
  static Vector load(const bfloat16* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static Vector load(const bfloat16* p, int64_t first, int64_t last) {
    return widen(_mm256_maskz_loadu_epi16(lanes(first, last), p));
  }
  static Vector load(const float16* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static Vector load(const float16* p, int64_t first, int64_t last) {
    return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes(first, last), p))};
  }

  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store(float* p, int64_t first, int64_t last) const { _mm512_mask_storeu_ps(p, lanes(first, last), v); }
  void store(bfloat16* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow()); }
  void store(bfloat16* p, int64_t first, int64_t last) const {
    _mm256_mask_storeu_epi16(p, lanes(first, last), narrow());
  }
  void store(float16* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), half()); }
  void store(float16* p, int64_t first, int64_t last) const { _mm256_mask_storeu_epi16(p, lanes(first, last), half()); }

  Vector plus(Vector a, Vector b) const { return {_mm512_fmadd_ps(a.v, b.v, v)}; }

 private:
  static Vector widen(__m256i bits) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
  }
  // Round to nearest, ties to even; NaN stays NaN. As store(bfloat16&, float).
  __m256i narrow() const {
    const __m512i u = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512i high = _mm512_srli_epi32(rounded, 16);
    return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(high, nan, _mm512_set1_epi32(0x7fc0)));
  }
  __m256i half() const { return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
};

template <typename A>
using Vec = Vector<A, sizeof(A) == 8 ? 8 : 16>;

#elif defined(__AVX2__)

template <>
struct Vector<float, 8> {
  static constexpr int size = 8;
  __m256 v;

  static __m256i lanes(int64_t first, int64_t last) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32(last > 8 ? 8 : int(last)), lane);
    const __m256i skipped = _mm256_cmpgt_epi32(_mm256_set1_epi32(first < 0 ? 0 : int(first)), lane);
    return _mm256_andnot_si256(skipped, below);
  }
  static Vector fill(float a) { return {_mm256_set1_ps(a)}; }

  static Vector load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vector load(const float* p, int64_t first, int64_t last) {
    return {_mm256_maskload_ps(p, lanes(first, last))};
  }
  static Vector load(const bfloat16* p) {
    const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(bits, 16))};
  }
  static Vector load(const float16* p) { return load_each(p, 0, 8); }
  template <typename T>
  static Vector load(const T* p, int64_t first, int64_t last) {
    return load_each(p, first, last);
  }

  void store(float* p) const { _mm256_storeu_ps(p, v); }
  // A masked store is microcode on some processors, many times the cost of the pieces of a row's end.
  void store(float* p, int64_t first, int64_t last) const {
    if (last >= 8 && first <= 0) return store(p);
    if (first > 0) return _mm256_maskstore_ps(p, lanes(first, last), v);
    __m128 rest = _mm256_castps256_ps128(v);
    if (last & 4) _mm_storeu_ps(p, rest), p += 4, rest = _mm256_extractf128_ps(v, 1);
    if (last & 2) _mm_storel_pi(reinterpret_cast<__m64*>(p), rest), p += 2, rest = _mm_movehl_ps(rest, rest);
    if (last & 1) _mm_store_ss(p, rest);
  }
  void store(bfloat16* p) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow()); }
  void store(float16* p) const { store_each(p, 0, 8); }
  template <typename T>
  void store(T* p, int64_t first, int64_t last) const {
    store_each(p, first, last);
  }

  Vector plus(Vector a, Vector b) const { return {_mm256_fmadd_ps(a.v, b.v, v)}; }

 private:
  // As in the wider registers above.
  __m128i narrow() const {
    const __m256i u = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i high = _mm256_blendv_epi8(_mm256_srli_epi32(rounded, 16), _mm256_set1_epi32(0x7fc0), nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
  }
  template <typename T>
  static Vector load_each(const T* p, int64_t first, int64_t last) {
    float each[8] = {};
    for (int i = 0; i < 8; ++i) {
      if (i >= first && i < last) each[i] = gankern::load(p[i]);
    }
    return load(each);
  }
  template <typename T>
  void store_each(T* p, int64_t first, int64_t last) const {
    float each[8];
    store(each);
    for (int i = 0; i < 8; ++i) {
      if (i >= first && i < last) gankern::store(p[i], each[i]);
    }
  }
};

template <typename A>
using Vec = Vector<A, sizeof(A) == 8 ? 4 : 8>;

#else

template <typename A>
using Vec = Vector<A, 4>;

#endif

// Lanes of two registers in a row: lanes [k, k + size) of (low, high); all even or all odd ones; and those of a and b
// alternating, first or second half.
namespace lanes {

template <int k, typename V, int... i>
GANKERN_HD V pick(V low, V high, std::integer_sequence<int, i...>) {
  if constexpr (k >= 0) return {__builtin_shufflevector(low.v, high.v, (k + i)...)};       // shifted by k
  if constexpr (k == -1) return {__builtin_shufflevector(low.v, high.v, (2 * i)...)};      // even
  if constexpr (k == -2) return {__builtin_shufflevector(low.v, high.v, (2 * i + 1)...)};  // odd
  constexpr int n = sizeof...(i);
  if constexpr (k == -3) return {__builtin_shufflevector(low.v, high.v, (i / 2 + i % 2 * n)...)};  // alternating
  if constexpr (k == -4) return {__builtin_shufflevector(low.v, high.v, (n / 2 + i / 2 + i % 2 * n)...)};
}

template <int k, typename V>
GANKERN_HD V pick(V low, V high) {
  return pick<k>(low, high, std::make_integer_sequence<int, V::size>());
}

}  // namespace lanes

template <int k, typename V>
GANKERN_HD V shifted(V low, V high) {
  return lanes::pick<k>(low, high);
}
template <typename V>
GANKERN_HD V even(V low, V high) {
  return lanes::pick<-1>(low, high);
}
template <typename V>
GANKERN_HD V odd(V low, V high) {
  return lanes::pick<-2>(low, high);
}
template <typename V>
GANKERN_HD V alternating_low(V a, V b) {
  return lanes::pick<-3>(a, b);
}
template <typename V>
GANKERN_HD V alternating_high(V a, V b) {
  return lanes::pick<-4>(a, b);
}

}  // namespace gankern::cpu::GANKERN_SIMD
