#include "minibatch_stddev.h"

#include <algorithm>
#include <cmath>

#include "vector.h"

namespace gankern::cpu::GANKERN_SIMD {

namespace {

constexpr int64_t kBlock = 256;  // elements whose mean and deviation stay in the first cache

// A run of at most kBlock elements of one channel of the statistic, at the same place in all samples of a group.
struct Run {
  int64_t group, channel;
  int64_t at;      // in a sample
  int64_t at_out;  // in a sample with its appended channels
  int64_t count;
};

template <typename Body>
void for_runs(const MinibatchStddevParams& p, int64_t unit, const Body& body) {
  const int64_t chunks = stddev_chunks(p), first = unit % chunks * kStddevChunk;
  const int64_t last = std::min(first + kStddevChunk, p.size());
  for (int64_t at = first; at < last;) {
    const int64_t span = at / p.inner, offset = at % p.inner;
    const int64_t row = span / p.channels, channel = span % p.channels;
    const int64_t count = std::min({last - at, p.inner - offset, kBlock});
    body(Run{unit / chunks, channel, at, row * p.row + channel * p.inner + offset, count});
    at += count;
  }
}

// The mean over a group, and the deviation sqrt(variance + eps), of each element of a run. `rest` is what rounding left
// out of the mean: where the members of a group are nearly equal it is no small part of x - mean.
template <typename T, typename A = arithmetic_t<T>>
struct Spread {
  using V = Vec<A>;
  A mean[kBlock], rest[kBlock], deviation[kBlock];

  Spread(const MinibatchStddevParams& p, const Run& run) {
    const T* x = static_cast<const T*>(p.x) + p.sample(run.group, 0) * p.size() + run.at;
    const int64_t step = (p.contiguous ? 1 : p.groups) * p.size();
    const V of_mean = V::fill(A(1) / A(p.members));
    for (int64_t i = 0; i < run.count; i += V::size) {
      const int64_t count = run.count - i;
      if (count >= V::size) {
        lanes(p.members, of_mean, i, [&](int64_t k) { return V::load(x + k * step + i); }, kBlock);
      } else {
        lanes(p.members, of_mean, i, [&](int64_t k) { return V::load(x + k * step + i, 0, count); }, count);
      }
    }
    A* __restrict s = deviation;
    const A of_square = A(1 / p.divisor);
#pragma omp simd
    for (int64_t i = 0; i < run.count; ++i) s[i] = std::sqrt(s[i] * of_square + A(kStddevEps));
  }

 private:
  template <typename Load>
  void lanes(int64_t members, V of_mean, int64_t i, const Load& load, int64_t count) {
    V sum = load(0);
    for (int64_t k = 1; k < members; ++k) sum.v += load(k).v;
    const V m{sum.v * of_mean.v};
    V squares = V::fill(A(0)), sum_of_rests = V::fill(A(0));
    for (int64_t k = 0; k < members; ++k) {
      const V d{load(k).v - m.v};
      squares = squares.plus(d, d);
      sum_of_rests.v += d.v;
    }
    const V left{sum_of_rests.v * of_mean.v};
    if (count >= V::size) {
      left.store(rest + i);
      m.store(mean + i);
      squares.store(deviation + i);
    } else {
      left.store(rest + i, 0, count);
      m.store(mean + i, 0, count);
      squares.store(deviation + i, 0, count);
    }
  }
};

template <typename T>
void forward(const MinibatchStddevParams& p, double* partial, int64_t begin, int64_t end) {
  using A = arithmetic_t<T>;
  for (int64_t unit = begin; unit < end; ++unit) {
    double* sums = partial + unit * p.channels;
    std::fill(sums, sums + p.channels, 0.0);
    for_runs(p, unit, [&](const Run& run) {
      const Spread<T> spread(p, run);
      A sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < run.count; ++i) sum += spread.deviation[i];
      sums[run.channel] += sum;
      for (int64_t k = 0; k < p.members; ++k) {
        const int64_t sample = p.sample(run.group, k);
        const T* from = static_cast<const T*>(p.x) + sample * p.size() + run.at;
        std::copy(from, from + run.count, static_cast<T*>(p.y) + sample * p.size_with_appended() + run.at_out);
      }
    });
  }
}

template <typename T>
void append(const MinibatchStddevParams& p, const double* statistic, int64_t begin, int64_t end) {
  for (int64_t sample = begin; sample < end; ++sample) {
    const int64_t group = p.contiguous ? sample / p.members : sample % p.groups;
    T* y = static_cast<T*>(p.y) + sample * p.size_with_appended() + p.appended;
    for (int64_t f = 0; f < p.channels; ++f) {
      T value;
      store(value, arithmetic_t<T>(statistic[group * p.channels + f]));
      for (int64_t i = 0; i < p.pixels; ++i) y[f * p.appended_channel + i * p.appended_pixel] = value;
    }
  }
}

template <typename T>
void gather(const MinibatchStddevParams& p, double* statistic, int64_t begin, int64_t end) {
  for (int64_t group = begin; group < end; ++group) {
    for (int64_t f = 0; f < p.channels; ++f) {
      double sum = 0;
      for (int64_t k = 0; k < p.members; ++k) {
        const T* dy = static_cast<const T*>(p.dy) + p.sample(group, k) * p.size_with_appended() + p.appended;
        for (int64_t i = 0; i < p.pixels; ++i) sum += load(dy[f * p.appended_channel + i * p.appended_pixel]);
      }
      statistic[group * p.channels + f] = sum;
    }
  }
}

// dx = dy + g * (x - mean) / (divisor * deviation), g the gradient of the deviation.
template <typename T>
void backward(const MinibatchStddevParams& p, const double* statistic, int64_t begin, int64_t end) {
  using A = arithmetic_t<T>;
  for (int64_t unit = begin; unit < end; ++unit) {
    for_runs(p, unit, [&](const Run& run) {
      const Spread<T> spread(p, run);
      const A gradient = A(statistic[run.group * p.channels + run.channel] / p.divisor);
      A slope[kBlock];
#pragma omp simd
      for (int64_t i = 0; i < run.count; ++i) slope[i] = gradient / spread.deviation[i];
      for (int64_t k = 0; k < p.members; ++k) {
        const int64_t sample = p.sample(run.group, k);
        const T* __restrict x = static_cast<const T*>(p.x) + sample * p.size() + run.at;
        const T* __restrict dy = static_cast<const T*>(p.dy) + sample * p.size_with_appended() + run.at_out;
        T* __restrict dx = static_cast<T*>(p.dx) + sample * p.size() + run.at;
#pragma omp simd
        for (int64_t i = 0; i < run.count; ++i) {
          store(dx[i], load(dy[i]) + slope[i] * (load(x[i]) - spread.mean[i] - spread.rest[i]));
        }
      }
    });
  }
}

// The gradients of dx above, for ddx in its place: with d = x - mean and q = sum of d * ddx over the group,
// grad_x = g / (divisor * deviation) * (ddx - mean of ddx - d * q / (divisor * variance)); grad_dy is ddx, and
// q / (divisor * deviation) where the deviation is appended. In double: in a group of two the bracket is nearly zero.
template <typename T>
void backward_backward(const MinibatchStddevParams& p, const double* statistic, double* partial, int64_t begin,
                       int64_t end) {
  using A = double;
  const A of_mean = A(1) / A(p.members), of_square = A(1 / p.divisor);
  for (int64_t unit = begin; unit < end; ++unit) {
    double* sums = partial + unit * p.channels;
    std::fill(sums, sums + p.channels, 0.0);
    for_runs(p, unit, [&](const Run& run) {
      const Spread<T, A> spread(p, run);
      const A gradient = statistic[run.group * p.channels + run.channel] / p.divisor;
      A ddx_mean[kBlock] = {}, q[kBlock] = {}, slope[kBlock];
      for (int64_t k = 0; k < p.members; ++k) {
        const int64_t sample = p.sample(run.group, k), at = sample * p.size() + run.at;
        const T* __restrict x = static_cast<const T*>(p.x) + at;
        const T* __restrict ddx = static_cast<const T*>(p.ddx) + at;
        T* __restrict grad_dy = static_cast<T*>(p.y) + sample * p.size_with_appended() + run.at_out;
#pragma omp simd
        for (int64_t i = 0; i < run.count; ++i) {
          const A v = load(ddx[i]);
          grad_dy[i] = ddx[i];
          ddx_mean[i] += v * of_mean;
          q[i] += v * (load(x[i]) - spread.mean[i]);
        }
      }
      A sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < run.count; ++i) {
        const A inverse = A(1) / spread.deviation[i];
        sum += q[i] * inverse * of_square;
        q[i] *= inverse * inverse * of_square;
        slope[i] = gradient * inverse;
      }
      sums[run.channel] += sum;
      for (int64_t k = 0; k < p.members; ++k) {
        const int64_t at = p.sample(run.group, k) * p.size() + run.at;
        const T* __restrict x = static_cast<const T*>(p.x) + at;
        const T* __restrict ddx = static_cast<const T*>(p.ddx) + at;
        T* __restrict grad_x = static_cast<T*>(p.dx) + at;
#pragma omp simd
        for (int64_t i = 0; i < run.count; ++i) {
          const A curved = load(ddx[i]) - ddx_mean[i] - (load(x[i]) - spread.mean[i]) * q[i];
          store(grad_x[i], arithmetic_t<T>(slope[i] * curved));
        }
      }
    });
  }
}

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

}  // namespace

void minibatch_stddev(const MinibatchStddevParams& p, double* partial, int64_t begin, int64_t end) {
  for_type(p.dtype, [&]<typename T>() { forward<T>(p, partial, begin, end); });
}

void minibatch_stddev_append(const MinibatchStddevParams& p, const double* statistic, int64_t begin, int64_t end) {
  for_type(p.dtype, [&]<typename T>() { append<T>(p, statistic, begin, end); });
}

void minibatch_stddev_gather(const MinibatchStddevParams& p, double* statistic, int64_t begin, int64_t end) {
  for_type(p.dtype, [&]<typename T>() { gather<T>(p, statistic, begin, end); });
}

void minibatch_stddev_backward(const MinibatchStddevParams& p, const double* statistic, int64_t begin, int64_t end) {
  for_type(p.dtype, [&]<typename T>() { backward<T>(p, statistic, begin, end); });
}

void minibatch_stddev_backward_backward(const MinibatchStddevParams& p, const double* statistic, double* partial,
                                        int64_t begin, int64_t end) {
  for_type(p.dtype, [&]<typename T>() { backward_backward<T>(p, statistic, partial, begin, end); });
}

}  // namespace gankern::cpu::GANKERN_SIMD
