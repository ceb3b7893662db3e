#include "spectral_norm_batched.h"

#include <algorithm>
#include <cmath>

namespace gankern::cpu::GANKERN_SIMD {

namespace {

constexpr int64_t kBlock = 2048;  // terms that are added in the arithmetic type, blocks in double

template <typename T, typename S>
double dot(const T* __restrict a, const S* __restrict b, int64_t n) {
  double total = 0;
  for (int64_t block = 0; block < n; block += kBlock) {
    const int64_t last = std::min(block + kBlock, n);
    arithmetic_t<T> sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = block; i < last; ++i) sum += load(a[i]) * load(b[i]);
    total += sum;
  }
  return total;
}

template <typename T>
void columns(const SpectralLayer& p, const SpectralUnit& unit) {
  using A = arithmetic_t<T>;
  const A* __restrict u = static_cast<const A*>(p.u);
  A* __restrict to = static_cast<A*>(p.product) + unit.begin;
  const int64_t n = unit.end - unit.begin, step = p.columns;
  const T* from = static_cast<const T*>(p.w) + unit.begin;
  std::fill(to, to + n, A(0));
  int64_t o = 0;
  for (; o + 4 <= p.rows; o += 4) {
    const T* __restrict w0 = from + o * step;
    const T* __restrict w1 = w0 + step;
    const T* __restrict w2 = w1 + step;
    const T* __restrict w3 = w2 + step;
    const A u0 = u[o], u1 = u[o + 1], u2 = u[o + 2], u3 = u[o + 3];
#pragma omp simd
    for (int64_t c = 0; c < n; ++c) to[c] += u0 * load(w0[c]) + u1 * load(w1[c]) + u2 * load(w2[c]) + u3 * load(w3[c]);
  }
  for (; o < p.rows; ++o) {
    const T* __restrict w = from + o * step;
#pragma omp simd
    for (int64_t c = 0; c < n; ++c) to[c] += u[o] * load(w[c]);
  }
}

template <typename T>
void rows(const SpectralLayer& p, const SpectralUnit& unit) {
  using A = arithmetic_t<T>;
  const T* w = static_cast<const T*>(p.w);
  for (int64_t o = unit.begin; o < unit.end; ++o) {
    static_cast<A*>(p.product)[o] = A(dot(w + o * p.columns, static_cast<const A*>(p.v), p.columns));
  }
}

template <typename A>
double normalise(const A* __restrict product, A* __restrict to, int64_t n, double eps) {
  const double norm = std::sqrt(dot(product, product, n));
  const double inverse = 1 / std::max(norm, eps);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) to[i] = A(product[i] * inverse);
  return norm * norm * inverse;
}

template <typename T>
void scale(const SpectralLayer& p, const SpectralUnit& unit) {
  using A = arithmetic_t<T>;
  const A inverse = A(1 / p.sigma);
  const T* __restrict w = static_cast<const T*>(p.w);
  T* __restrict y = static_cast<T*>(p.y);
#pragma omp simd
  for (int64_t i = unit.begin * p.columns; i < unit.end * p.columns; ++i) store(y[i], load(w[i]) * inverse);
}

template <typename T>
double backward_dot(const SpectralLayer& p, const SpectralUnit& unit) {
  const int64_t first = unit.begin * p.columns;
  const T* w = static_cast<const T*>(p.w);
  return dot(static_cast<const T*>(p.dy) + first, w + first, unit.end * p.columns - first);
}

template <typename T>
void backward(const SpectralLayer& p, const SpectralUnit& unit) {
  using A = arithmetic_t<T>;
  const A inverse = A(1 / p.sigma);
  const A* __restrict v = static_cast<const A*>(p.v);
  for (int64_t o = unit.begin; o < unit.end; ++o) {
    const A slope = A(p.r / p.sigma * static_cast<const A*>(p.u)[o]);
    const T* __restrict dy = static_cast<const T*>(p.dy) + o * p.columns;
    T* __restrict dw = static_cast<T*>(p.y) + o * p.columns;
#pragma omp simd
    for (int64_t c = 0; c < p.columns; ++c) store(dw[c], load(dy[c]) * inverse - slope * v[c]);
  }
}

template <typename Body>
auto for_type(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::f64:
      return body.template operator()<double>();
    case DType::bf16:
      return body.template operator()<bfloat16>();
    case DType::f16:
      return body.template operator()<float16>();
    default:
      return body.template operator()<float>();
  }
}

}  // namespace

void spectral_columns(DType dtype, const SpectralLayer& layer, const SpectralUnit& unit) {
  for_type(dtype, [&]<typename T>() { columns<T>(layer, unit); });
}

void spectral_rows(DType dtype, const SpectralLayer& layer, const SpectralUnit& unit) {
  for_type(dtype, [&]<typename T>() { rows<T>(layer, unit); });
}

double spectral_normalise(DType dtype, const SpectralLayer& layer, bool of_u, double eps) {
  return for_type(dtype, [&]<typename T>() {
    using A = arithmetic_t<T>;
    A* to = static_cast<A*>(of_u ? layer.u : layer.v);
    return normalise(static_cast<const A*>(layer.product), to, of_u ? layer.rows : layer.columns, eps);
  });
}

double spectral_dot(DType dtype, const SpectralLayer& layer) {
  return for_type(dtype, [&]<typename T>() {
    using A = arithmetic_t<T>;
    return dot(static_cast<const A*>(layer.u), static_cast<const A*>(layer.product), layer.rows);
  });
}

void spectral_scale(DType dtype, const SpectralLayer& layer, const SpectralUnit& unit) {
  for_type(dtype, [&]<typename T>() { scale<T>(layer, unit); });
}

double spectral_backward_dot(DType dtype, const SpectralLayer& layer, const SpectralUnit& unit) {
  return for_type(dtype, [&]<typename T>() { return backward_dot<T>(layer, unit); });
}

void spectral_backward(DType dtype, const SpectralLayer& layer, const SpectralUnit& unit) {
  for_type(dtype, [&]<typename T>() { backward<T>(layer, unit); });
}

}  // namespace gankern::cpu::GANKERN_SIMD
