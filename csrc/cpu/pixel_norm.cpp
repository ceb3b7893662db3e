#include "pixel_norm.h"

#include <vector>

namespace gankern::cpu::GANKERN_SIMD {

namespace {

constexpr int64_t kBlock = 64;  // channels whose sum is in the arithmetic type; sums of blocks are in double

constexpr int sums_of(int order) {
  return order == 0 ? 1 : order == 1 ? 2 : 4;
}

// The results at one element, from the inputs and the coefficients there.
template <int order, typename T, typename A>
GANKERN_HD void write(T* first, T* second, A x, A dy, A ddx, const PixelNormCoefficients<A>& k) {
  if constexpr (order == 0) store(*first, k.r * x);
  if constexpr (order == 1) store(*first, k.r * dy + k.of_x * x);
  if constexpr (order == 2) {
    store(*first, k.r * ddx + k.of_dy * x);
    store(*second, k.of_x * x + k.of_dy * dy + k.of_ddx * ddx);
  }
}

template <int order, typename T>
struct PixelNorm {
  using A = arithmetic_t<T>;
  static constexpr int inputs = order + 1, sums = sums_of(order);

  const PixelNormParams& p;
  const T* in[3];
  T* out[2];

  explicit PixelNorm(const PixelNormParams& params) : p(params) {
    for (int k = 0; k < 3; ++k) in[k] = static_cast<const T*>(p.in[k < inputs ? k : 0]);
    for (int k = 0; k < 2; ++k) out[k] = static_cast<T*>(p.out[order == 2 ? k : 0]);
  }

  // One row of neighbouring channels: a second reading of it comes from the cache.
  void row(int64_t unit) const {
    const int64_t at = unit * p.channels;
    const T* __restrict x = in[0] + at;
    const T* __restrict dy = in[1] + at;
    const T* __restrict ddx = in[2] + at;
    double total[4] = {};
    for (int64_t block = 0; block < p.channels; block += 16 * kBlock) {
      const int64_t end = std::min(p.channels, block + 16 * kBlock);
      A s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
      for (int64_t i = block; i < end; ++i) {
        const A a = load(x[i]);
        s0 += a * a;
        if constexpr (order >= 1) s1 += a * load(dy[i]);
        if constexpr (order == 2) s2 += a * load(ddx[i]), s3 += load(dy[i]) * load(ddx[i]);
      }
      total[0] += s0, total[1] += s1, total[2] += s2, total[3] += s3;
    }
    const auto exact = pixel_norm_coefficients<order>(total, p.channels, p.eps);
    const PixelNormCoefficients<A> k{A(exact.r), A(exact.of_x), A(exact.of_dy), A(exact.of_ddx)};
    T* __restrict first = out[0] + at;
    T* __restrict second = out[1] + at;
#pragma omp simd
    for (int64_t i = 0; i < p.channels; ++i) {
      write<order>(first + i, second + i, load(x[i]), load(dy[i]), load(ddx[i]), k);
    }
  }

  // All channels of w neighbouring positions. They are kept in a buffer, for rows of an image lie a power of two apart
  // and would throw each other out of the cache.
  void columns(int64_t from, int64_t w, A* buffer) const {
    const int64_t size = p.channels * w;
    std::vector<double> total(sums * w);
    std::vector<A> sum(sums * w);
    for (int64_t block = 0; block < p.channels; block += kBlock) {
      std::fill(sum.begin(), sum.end(), A(0));
      for (int64_t c = block; c < std::min(p.channels, block + kBlock); ++c) {
        add_row(from + c * p.inner, w, buffer + c * w, size, sum.data());
      }
      for (int64_t i = 0; i < sums * w; ++i) total[i] += sum[i];
    }
    std::vector<A> k(4 * w);
    for (int64_t i = 0; i < w; ++i) {
      double each[4];
      for (int s = 0; s < sums; ++s) each[s] = total[s * w + i];
      const auto exact = pixel_norm_coefficients<order>(each, p.channels, p.eps);
      k[i] = A(exact.r), k[w + i] = A(exact.of_x), k[2 * w + i] = A(exact.of_dy), k[3 * w + i] = A(exact.of_ddx);
    }
    for (int64_t c = 0; c < p.channels; ++c) write_row(from + c * p.inner, w, buffer + c * w, size, k.data());
  }

  void add_row(int64_t at, int64_t w, A* __restrict buffer, int64_t size, A* __restrict sum) const {
    const T* __restrict x = in[0] + at;
    const T* __restrict dy = in[1] + at;
    const T* __restrict ddx = in[2] + at;
#pragma omp simd
    for (int64_t i = 0; i < w; ++i) {
      const A a = load(x[i]);
      buffer[i] = a;
      sum[i] += a * a;
      if constexpr (order >= 1) {
        const A g = load(dy[i]);
        buffer[size + i] = g;
        sum[w + i] += a * g;
        if constexpr (order == 2) {
          const A h = load(ddx[i]);
          buffer[2 * size + i] = h;
          sum[2 * w + i] += a * h;
          sum[3 * w + i] += g * h;
        }
      }
    }
  }

  void write_row(int64_t at, int64_t w, const A* __restrict buffer, int64_t size, const A* __restrict k) const {
    T* __restrict first = out[0] + at;
    T* __restrict second = out[1] + at;
#pragma omp simd
    for (int64_t i = 0; i < w; ++i) {
      const A g = order >= 1 ? buffer[size + i] : A(0), h = order == 2 ? buffer[2 * size + i] : A(0);
      const PixelNormCoefficients<A> own{k[i], k[w + i], k[2 * w + i], k[3 * w + i]};
      write<order>(first + i, second + i, buffer[i], g, h, own);
    }
  }

  void run(int64_t begin, int64_t end) const {
    if (p.inner == 1) {
      for (int64_t unit = begin; unit < end; ++unit) row(unit);
      return;
    }
    const PixelNormUnits units(p);
    thread_local std::vector<A> buffer;
    buffer.resize(std::max<size_t>(buffer.size(), inputs * units.elements));
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t first = unit % units.across * units.width;
      columns(unit / units.across * p.channels * p.inner + first, std::min(units.width, p.inner - first),
              buffer.data());
    }
  }
};

template <typename T>
void run(const PixelNormParams& p, int order, int64_t begin, int64_t end) {
  if (order == 0) return PixelNorm<0, T>(p).run(begin, end);
  if (order == 1) return PixelNorm<1, T>(p).run(begin, end);
  PixelNorm<2, T>(p).run(begin, end);
}

}  // namespace

void pixel_norm(const PixelNormParams& p, int order, int64_t begin, int64_t end) {
  switch (p.dtype) {
    case DType::f64:
      return run<double>(p, order, begin, end);
    case DType::f32:
      return run<float>(p, order, begin, end);
    case DType::bf16:
      return run<bfloat16>(p, order, begin, end);
    case DType::f16:
      return run<float16>(p, order, begin, end);
  }
}

}  // namespace gankern::cpu::GANKERN_SIMD
