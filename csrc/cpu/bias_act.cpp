#include "bias_act.h"

#include <algorithm>

#include "choose.h"

namespace gankern::cpu::GANKERN_SIMD {

namespace {

// Rows shorter than this are joined, so that the inner loop stays long when there are few channels.
constexpr int64_t kShortRow = 64, kJoined = 1024;

template <typename T>
arithmetic_t<T> load_bias(const void* b, DType dtype, int64_t c) {
  using A = arithmetic_t<T>;
  switch (dtype) {
    case DType::f64:
      return A(static_cast<const double*>(b)[c]);
    case DType::f32:
      return A(static_cast<const float*>(b)[c]);
    case DType::bf16:
      return A(load(static_cast<const bfloat16*>(b)[c]));
    default:
      return A(load(static_cast<const float16*>(b)[c]));
  }
}

// The bias of a run of consecutive elements: one number for a plane, or one per element for channels_last rows.
template <typename T>
struct Bias {
  using A = arithmetic_t<T>;
  const void* b;
  DType dtype;
  int64_t channels, inner;
  int64_t period = 0;  // elements after which `row` repeats
  A row[kJoined];

  Bias(const void* b_, DType dtype_, int64_t channels_, int64_t inner_)
      : b(b_), dtype(dtype_), channels(channels_), inner(inner_) {
    if (!per_element()) return;
    period = channels < kShortRow ? kJoined / channels * channels : std::min(channels, kJoined);
    if (channels <= kJoined) fill(0, period);
  }

  bool per_element() const { return b != nullptr && inner == 1; }

  void fill(int64_t first, int64_t count) {
    for (int64_t i = 0; i < count; ++i) row[i] = load_bias<T>(b, dtype, (first + i) % channels);
  }

  // Calls run(offset, count, bias pointer or null, one bias) over [begin, end), runs sharing one way to find b.
  template <typename Run>
  void for_runs(int64_t begin, int64_t end, const Run& run) {
    for (int64_t i = begin; i < end;) {
      int64_t n;
      if (b == nullptr) {
        n = end - i;
        run(i, n, static_cast<const A*>(nullptr), A(0));
      } else if (!per_element()) {
        n = std::min(end - i, inner - i % inner);
        run(i, n, static_cast<const A*>(nullptr), load_bias<T>(b, dtype, i / inner % channels));
      } else if (channels <= kJoined) {
        const int64_t phase = i % channels;
        n = std::min(end - i, period - phase);
        run(i, n, row + phase, A(0));
      } else {
        const int64_t c = i % channels;
        n = std::min({end - i, channels - c, kJoined});
        fill(c, n);
        run(i, n, static_cast<const A*>(row), A(0));
      }
      i += n;
    }
  }
};

template <Activation act, typename T>
void forward(const BiasActParams& p, int64_t begin, int64_t end) {
  using A = arithmetic_t<T>;
  const BiasActConstants<A> k(p.alpha, p.gain, p.clamp);
  const T* __restrict x = static_cast<const T*>(p.x);
  T* __restrict y = static_cast<T*>(p.y);
  Bias<T> bias(p.b, p.bias_dtype, p.channels, p.inner);
  bias.for_runs(begin, end, [&](int64_t at, int64_t n, const A* __restrict row, A one) {
    if (row != nullptr) {
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) store(y[at + i], gankern::bias_act<act>(load(x[at + i]) + row[i], k));
    } else {
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) store(y[at + i], gankern::bias_act<act>(load(x[at + i]) + one, k));
    }
  });
}

// dx over [begin, end). The bias is only added where the slope follows from the input.
template <Activation act, bool from_input, typename T>
void slopes(const BiasActBackwardParams& p, int64_t begin, int64_t end) {
  using A = arithmetic_t<T>;
  const BiasActConstants<A> k(p.alpha, p.gain, p.clamp);
  const T* __restrict dy = static_cast<const T*>(p.dy);
  const T* __restrict ref = static_cast<const T*>(p.ref);
  T* __restrict dx = static_cast<T*>(p.dx);
  if constexpr (act == Activation::linear) {
    if (ref == nullptr) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) store(dx[i], load(dy[i]) * k.gain);
      return;
    }
  }
  if constexpr (!from_input) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      store(dx[i], load(dy[i]) * bias_act_slope<act, false>(load(ref[i]), k));
    }
  } else {
    Bias<T> bias(p.b, p.bias_dtype, p.channels, p.inner);
    bias.for_runs(begin, end, [&](int64_t at, int64_t n, const A* __restrict row, A one) {
      for (int64_t i = 0; i < n; ++i) {
        const A u = load(ref[at + i]) + (row != nullptr ? row[i] : one);
        store(dx[at + i], load(dy[at + i]) * bias_act_slope<act, true>(u, k));
      }
    });
  }
}

// Blocks of 2048 elements are summed in the arithmetic type while they are in the cache, the blocks in double.
template <typename T>
double sum(const T* __restrict v, int64_t n) {
  double total = 0;
  for (int64_t block = 0; block < n; block += 2048) {
    const int64_t m = std::min<int64_t>(2048, n - block);
    arithmetic_t<T> s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < m; ++i) s += load(v[block + i]);
    total += s;
  }
  return total;
}

template <typename T>
void add_rows(const T* __restrict v, int64_t n, double* __restrict total, int64_t channels) {
  for (int64_t at = 0; at < n; at += channels) {
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) total[c] += load(v[at + c]);
  }
}

template <Activation act, bool from_input, typename T>
void backward(const BiasActBackwardParams& p, double* partial, int64_t begin, int64_t end) {
  const BiasActUnits units(p);
  const int64_t total = p.outer * p.channels * p.inner;
  const int64_t size = units.planes ? p.inner : units.rows * p.channels;
  if (p.db == nullptr) return slopes<act, from_input, T>(p, begin * size, std::min(end * size, total));
  const T* dx = static_cast<const T*>(p.dx);
  const int64_t row = units.planes ? 4096 : std::max<int64_t>(1, 4096 / p.channels) * p.channels;
  for (int64_t unit = begin; unit < end; ++unit) {
    double* out = partial + unit * units.channels_per_unit;
    std::fill(out, out + units.channels_per_unit, 0.0);
    const int64_t last = std::min((unit + 1) * size, total);
    for (int64_t at = unit * size; at < last; at += row) {
      const int64_t n = std::min(row, last - at);
      slopes<act, from_input, T>(p, at, at + n);
      if (units.planes) {
        *out += sum(dx + at, n);
      } else {
        add_rows(dx + at, n, out, p.channels);
      }
    }
  }
}

template <Activation act, typename T>
void backward_from(const BiasActBackwardParams& p, double* partial, int64_t begin, int64_t end) {
  if constexpr (act == Activation::swish) {
    backward<act, true, T>(p, partial, begin, end);
  } else if constexpr (act == Activation::lrelu) {
    (p.from_input ? backward<act, true, T> : backward<act, false, T>)(p, partial, begin, end);
  } else {
    backward<act, false, T>(p, partial, begin, end);
  }
}

}  // namespace

void bias_act(const BiasActParams& p, int64_t begin, int64_t end) {
  for_type(p.dtype,
           [&]<typename T>() { for_activation(p.act, [&]<Activation act>() { forward<act, T>(p, begin, end); }); });
}

void bias_act_backward(const BiasActBackwardParams& p, double* partial, int64_t begin, int64_t end) {
  for_type(p.dtype, [&]<typename T>() {
    for_activation(p.act, [&]<Activation act>() { backward_from<act, T>(p, partial, begin, end); });
  });
}

}  // namespace gankern::cpu::GANKERN_SIMD
