#include "conditional_batch_norm.h"

#include <vector>

#include "conditional_batch_norm_layout.h"

namespace gankern::cpu::GANKERN_SIMD {

namespace {

template <typename T, bool planes>
void moments(const BatchNormParams& p, double* partial, int64_t begin, int64_t end) {
  using A = arithmetic_t<T>;
  const Layout<T, planes> layout(p);
  const T* x_all = static_cast<const T*>(p.x);
  const int64_t channels = planes ? 1 : p.c;
  std::vector<A> sum(channels), squares(channels);
  std::vector<Moments> moments(channels);
  for (int64_t unit = begin; unit < end; ++unit) {
    std::fill(moments.begin(), moments.end(), Moments{});
    for_images<planes>(p, unit, [&](int64_t n, int64_t c, int64_t first, int64_t last) {
      layout.for_chunks(n, c, first, last, [&](int64_t at, int64_t, int64_t count) {
        const T* __restrict x = x_all + at;
        if constexpr (planes) {
          A s = 0, m2 = 0;
#pragma omp simd reduction(+ : s)
          for (int64_t i = 0; i < count; ++i) s += load(x[i]);
          const A mean = s / A(count);
#pragma omp simd reduction(+ : m2)
          for (int64_t i = 0; i < count; ++i) m2 += (load(x[i]) - mean) * (load(x[i]) - mean);
          moments[0].add(double(count), mean, m2);
        } else {
          A* __restrict s = sum.data();
          A* __restrict m2 = squares.data();
          std::fill(s, s + p.c, A(0));
          std::fill(m2, m2 + p.c, A(0));
          for (int64_t i = 0; i < count; i += p.c) {
#pragma omp simd
            for (int64_t j = 0; j < p.c; ++j) s[j] += load(x[i + j]);
          }
          const A pixels = A(count / p.c);
          for (int64_t j = 0; j < p.c; ++j) s[j] /= pixels;
          for (int64_t i = 0; i < count; i += p.c) {
#pragma omp simd
            for (int64_t j = 0; j < p.c; ++j) m2[j] += (load(x[i + j]) - s[j]) * (load(x[i + j]) - s[j]);
          }
          for (int64_t j = 0; j < p.c; ++j) moments[j].add(pixels, s[j], m2[j]);
        }
      });
    });
    for (int64_t j = 0; j < channels; ++j) {
      partial[2 * unit * channels + j] = moments[j].mean;
      partial[(2 * unit + 1) * channels + j] = moments[j].m2;
    }
  }
}

// What x becomes before relu: (x - mean) * scale + bias; one number each (NCHW) or [C].
template <typename A, bool planes>
struct Affine {
  std::vector<A> scale;
  const A *gain, *bias, *mean, *rstd;
  int64_t channels;

  explicit Affine(const BatchNormParams& p)
      : scale(planes ? 1 : p.c),
        gain(static_cast<const A*>(p.gain)),
        bias(static_cast<const A*>(p.bias)),
        mean(static_cast<const A*>(p.mean)),
        rstd(static_cast<const A*>(p.rstd)),
        channels(p.c) {}

  struct At {
    const A *mean, *scale, *bias;
    A operator()(A x, int64_t i) const {
      const int64_t k = planes ? 0 : i;
      return (x - mean[k]) * scale[k] + bias[k];
    }
  };

  At at(int64_t n, int64_t c) {
    for (size_t j = 0; j < scale.size(); ++j) scale[j] = gain[n * channels + c + j] * rstd[c + j];
    return {mean + c, scale.data(), bias + n * channels + c};
  }
};

template <typename T, bool planes>
void normalise(const BatchNormParams& p, int64_t begin, int64_t end) {
  using A = arithmetic_t<T>;
  const Layout<T, planes> layout(p);
  const A floor = floor_of<A>(p);
  Affine<A, planes> affine(p);
  const auto buffer = layout.buffer();
  for (int64_t unit = begin; unit < end; ++unit) {
    for_images<planes>(p, unit, [&](int64_t n, int64_t c, int64_t first, int64_t last) {
      const auto f = affine.at(n, c);
      layout.for_chunks(n, c, first, last, [&](int64_t at, int64_t to, int64_t count) {
        const T* __restrict x = static_cast<const T*>(p.x) + at;
        T* y = static_cast<T*>(p.y) + to;
        A* __restrict values = layout.target(y, buffer.get());
        const int64_t inner = layout.inner(count);
        for (int64_t i = 0; i < count; i += inner) {
#pragma omp simd
          for (int64_t j = 0; j < inner; ++j) {
            const A u = f(load(x[i + j]), j);
            values[i + j] = u <= floor ? A(0) : u;
          }
        }
        layout.spread(values, count, y);
      });
    });
  }
}

template <typename T, bool planes, bool second>
void sums(const BatchNormBackwardParams& p, double* out, int64_t begin, int64_t end) {
  using A = arithmetic_t<T>;
  constexpr int kinds = second ? kSecondOrderSums : kFirstOrderSums;
  const Layout<T, planes> layout(p);
  const A floor = floor_of<A>(p);
  Affine<A, planes> affine(p);
  const auto buffer = layout.buffer();
  std::vector<A> accumulators(planes ? 0 : kinds * p.c);
  for (int64_t unit = begin; unit < end; ++unit) {
    if (!planes) std::fill(out + unit * kinds * p.c, out + (unit + 1) * kinds * p.c, 0.0);
    for_images<planes>(p, unit, [&](int64_t n, int64_t c, int64_t first, int64_t last) {
      const auto f = affine.at(n, c);
      double total[kSecondOrderSums] = {};
      layout.for_chunks(n, c, first, last, [&](int64_t at, int64_t to, int64_t count) {
        const T* __restrict x = static_cast<const T*>(p.x) + at;
        const T* __restrict h = second ? static_cast<const T*>(p.ddx) + at : nullptr;
        const A* __restrict dy = layout.gathered(static_cast<const T*>(p.dy) + to, count, buffer.get());
        if constexpr (planes) {
          A g_sum = 0, gx = 0, h_sum = 0, hx = 0, gh = 0;
          const A mean = f.mean[0];
#pragma omp simd reduction(+ : g_sum, gx, h_sum, hx, gh)
          for (int64_t i = 0; i < count; ++i) {
            const A v = load(x[i]), centred = v - mean, g = f(v, 0) <= floor ? A(0) : dy[i];
            g_sum += g;
            gx += g * centred;
            if constexpr (second) {
              const A hi = load(h[i]);
              h_sum += hi;
              hx += hi * centred;
              gh += g * hi;
            }
          }
          const A sums[] = {g_sum, gx, h_sum, hx, gh};
          for (int k = 0; k < kinds; ++k) total[k] += sums[k];
        } else {
          std::fill(accumulators.begin(), accumulators.end(), A(0));
          A* __restrict s = accumulators.data();
          const int64_t channels = p.c;
          for (int64_t i = 0; i < count; i += channels) {
#pragma omp simd
            for (int64_t j = 0; j < channels; ++j) {
              const A v = load(x[i + j]), centred = v - f.mean[j], g = f(v, j) <= floor ? A(0) : dy[i + j];
              s[j] += g;
              s[channels + j] += g * centred;
              if constexpr (second) {
                const A hi = load(h[i + j]);
                s[2 * channels + j] += hi;
                s[3 * channels + j] += hi * centred;
                s[4 * channels + j] += g * hi;
              }
            }
          }
          double* __restrict to_double = out + unit * kinds * channels;
#pragma omp simd
          for (int64_t j = 0; j < kinds * channels; ++j) to_double[j] += s[j];
        }
      });
      if constexpr (planes) {
        for (int k = 0; k < kinds; ++k) out[(k * p.n + n) * p.c + c] = total[k];
      }
    });
  }
}

// The coefficients of one plane, or of all channels of an image.
template <typename A, bool planes, bool second>
void fill_coefficients(const BatchNormBackwardParams& p, int64_t n, int64_t c, std::vector<A>& out) {
  const int64_t count = planes ? 1 : p.c;
  for (int64_t j = 0; j < count; ++j) {
    const int64_t at = n * p.c + c + j;
    const double gain = static_cast<const A*>(p.gain)[at], rstd = static_cast<const A*>(p.rstd)[c + j];
    BatchNormCoefficients<A> k;
    if constexpr (second) {
      const double of_gain = static_cast<const A*>(p.ddgain)[at], of_bias = static_cast<const A*>(p.ddbias)[at];
      k = batch_norm_second_order<A>(gain, rstd, of_gain, of_bias, p.means + c + j, p.c);
    } else {
      k = batch_norm_first_order<A>(gain, rstd, p.means + c + j, p.c);
    }
    const A all[] = {k.g, k.h, k.x, k.one, k.g_h, k.g_x, k.g_one};
    for (int i = 0; i < 7; ++i) out[i * count + j] = all[i];
  }
}

template <typename T, bool planes, bool second>
void combine(const BatchNormBackwardParams& p, int64_t begin, int64_t end) {
  using A = arithmetic_t<T>;
  const Layout<T, planes> layout(p);
  const A floor = floor_of<A>(p);
  Affine<A, planes> affine(p);
  const int64_t channels = planes ? 1 : p.c;
  const auto buffer = layout.buffer(), cotangents = layout.buffer();
  std::vector<A> coefficients(7 * channels);
  for (int64_t unit = begin; unit < end; ++unit) {
    for_images<planes>(p, unit, [&](int64_t n, int64_t c, int64_t first, int64_t last) {
      const auto f = affine.at(n, c);
      fill_coefficients<A, planes, second>(p, n, c, coefficients);
      const A* __restrict k = coefficients.data();
      layout.for_chunks(n, c, first, last, [&](int64_t at, int64_t to, int64_t count) {
        const T* __restrict x = static_cast<const T*>(p.x) + at;
        const T* __restrict h = second ? static_cast<const T*>(p.ddx) + at : nullptr;
        const A* __restrict dy = layout.gathered(static_cast<const T*>(p.dy) + to, count, buffer.get());
        T* __restrict grad_x = static_cast<T*>(p.grad_x) + at;
        T* grad_dy = second ? static_cast<T*>(p.grad_dy) + to : nullptr;
        A* __restrict cotangent = second ? layout.target(grad_dy, cotangents.get()) : nullptr;
        const int64_t inner = layout.inner(count);
        for (int64_t i = 0; i < count; i += inner) {
#pragma omp simd
          for (int64_t j = 0; j < inner; ++j) {
            const int64_t m = planes ? 0 : j;
            const A v = load(x[i + j]), centred = v - f.mean[m];
            const bool cut = f(v, j) <= floor;
            const A g = cut ? A(0) : dy[i + j];
            A result = g * k[m] + centred * k[2 * channels + m] + k[3 * channels + m];
            if constexpr (second) {
              const A hi = load(h[i + j]);
              result += hi * k[channels + m];
              const A t = hi * k[4 * channels + m] + centred * k[5 * channels + m] + k[6 * channels + m];
              cotangent[i + j] = cut ? A(0) : t;
            }
            store(grad_x[i + j], result);
          }
        }
        if constexpr (second) layout.spread(cotangent, count, grad_dy);
      });
    });
  }
}

// Calls body.template operator()<T, planes>() for the type and the layout.
template <typename Body>
void for_layouts(const BatchNormParams& p, const Body& body) {
  const auto of_type = [&]<typename T>() {
    return p.channels_last ? body.template operator()<T, false>() : body.template operator()<T, true>();
  };
  switch (p.dtype) {
    case DType::f64:
      return of_type.template operator()<double>();
    case DType::f32:
      return of_type.template operator()<float>();
    case DType::bf16:
      return of_type.template operator()<bfloat16>();
    case DType::f16:
      return of_type.template operator()<float16>();
  }
}

}  // namespace

void batch_norm_moments(const BatchNormParams& p, double* partial, int64_t begin, int64_t end) {
  for_layouts(p, [&]<typename T, bool planes>() { moments<T, planes>(p, partial, begin, end); });
}

void batch_norm_normalise(const BatchNormParams& p, int64_t begin, int64_t end) {
  for_layouts(p, [&]<typename T, bool planes>() { normalise<T, planes>(p, begin, end); });
}

void batch_norm_sums(const BatchNormBackwardParams& p, double* out, int64_t begin, int64_t end) {
  for_layouts(p, [&]<typename T, bool planes>() {
    (p.second ? sums<T, planes, true> : sums<T, planes, false>)(p, out, begin, end);
  });
}

void batch_norm_combine(const BatchNormBackwardParams& p, int64_t begin, int64_t end) {
  for_layouts(p, [&]<typename T, bool planes>() {
    (p.second ? combine<T, planes, true> : combine<T, planes, false>)(p, begin, end);
  });
}

}  // namespace gankern::cpu::GANKERN_SIMD
