#include "fade.h"

namespace gankern::cpu::GANKERN_SIMD {

namespace {

template <typename T>
struct Weights {
  using A = arithmetic_t<T>;
  A high, low, quarter;

  explicit Weights(double alpha) : high(A(alpha)), low(A(1 - alpha)), quarter(A((1 - alpha) / 4)) {}
};

// The four pixels of `high` from i on, `right` to the next and `below` to the next row, and the pixel j of `low`.
template <Fade kind, typename T>
GANKERN_HD void quad(const T* in, const T* low, T* out, T* low_out, int64_t i, int64_t right, int64_t below, int64_t j,
                     const Weights<T>& k) {
  using A = arithmetic_t<T>;
  const A a = load(in[i]), b = load(in[i + right]), c = load(in[i + below]), d = load(in[i + below + right]);
  A rest = 0;
  if constexpr (kind == Fade::half) rest = k.low * load(low[j]);
  if constexpr (kind == Fade::detail) rest = k.quarter * ((a + b) + (c + d));
  if constexpr (kind == Fade::backward_half) store(low_out[j], k.low * ((a + b) + (c + d)));
  store(out[i], k.high * a + rest);
  store(out[i + right], k.high * b + rest);
  store(out[i + below], k.high * c + rest);
  store(out[i + below + right], k.high * d + rest);
}

template <Fade kind, typename T>
void pairs_of_rows(const FadeParams& p, int64_t begin, int64_t end) {
  const Weights<T> k(p.alpha);
  const int64_t g = p.g, row = p.w * g, half = p.w / 2;
  for (int64_t pair = begin; pair < end; ++pair) {
    const T* __restrict in = static_cast<const T*>(p.in) + pair * 2 * row;
    const T* __restrict low = static_cast<const T*>(p.low) + pair * half * g;
    T* __restrict out = static_cast<T*>(p.out) + pair * 2 * row;
    T* __restrict low_out = static_cast<T*>(p.low_out) + pair * half * g;
    if (g == 1) {
#pragma omp simd
      for (int64_t x = 0; x < half; ++x) quad<kind>(in, low, out, low_out, 2 * x, 1, row, x, k);
      continue;
    }
    for (int64_t x = 0; x < half; ++x) {
#pragma omp simd
      for (int64_t c = 0; c < g; ++c) quad<kind>(in, low, out, low_out, 2 * x * g + c, g, row, x * g + c, k);
    }
  }
}

template <typename T>
void elements(const FadeParams& p, int64_t begin, int64_t end) {
  const Weights<T> k(p.alpha);
  const T* __restrict in = static_cast<const T*>(p.in);
  const T* __restrict low = static_cast<const T*>(p.low);
  T* __restrict out = static_cast<T*>(p.out);
  T* __restrict low_out = static_cast<T*>(p.low_out);
  if (p.kind == Fade::same) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) store(out[i], k.high * load(in[i]) + k.low * load(low[i]));
  } else {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      const auto v = load(in[i]);
      store(out[i], k.high * v), store(low_out[i], k.low * v);
    }
  }
}

template <typename T>
void run(const FadeParams& p, int64_t begin, int64_t end) {
  switch (p.kind) {
    case Fade::half:
      return pairs_of_rows<Fade::half, T>(p, begin, end);
    case Fade::detail:
      return pairs_of_rows<Fade::detail, T>(p, begin, end);
    case Fade::backward_half:
      return pairs_of_rows<Fade::backward_half, T>(p, begin, end);
    default:
      return elements<T>(p, begin, end);
  }
}

}  // namespace

void fade(const FadeParams& p, int64_t begin, int64_t end) {
  switch (p.dtype) {
    case DType::f64:
      return run<double>(p, begin, end);
    case DType::f32:
      return run<float>(p, begin, end);
    case DType::bf16:
      return run<bfloat16>(p, begin, end);
    case DType::f16:
      return run<float16>(p, begin, end);
  }
}

}  // namespace gankern::cpu::GANKERN_SIMD
