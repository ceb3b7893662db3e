#include "styled_bias_act.h"

#include <vector>

#include "choose.h"

namespace gankern::cpu::GANKERN_SIMD {

namespace {

// Pixels with few channels are joined to long rows; sums are collected in the arithmetic type over one run of a plane,
// or over some rows, and then in double.
constexpr int64_t kShortRow = 64, kJoined = 1024, kRun = 2048, kRows = 64;

// Where a unit lies: its sample, its channel if it is a plane, its first element and its pixels.
struct Place {
  int64_t unit, sample, channel, channels, element, pixel, pixels;
  int64_t row;  // elements of a row: those of one pixel, or of several joined ones

  Place(const StyledShape& s, const StyledUnits& units, int64_t unit_, bool joined)
      : unit(unit_), sample(unit / units.per_sample), channels(s.channels) {
    const int64_t within = unit % units.per_sample;
    channel = s.channels_last ? 0 : within;
    pixel = s.channels_last ? within * units.pixels : 0;
    pixels = std::min(units.pixels, s.pixels - pixel);
    element = s.channels_last ? (sample * s.pixels + pixel) * channels : unit * s.pixels;
    row = joined && channels < kShortRow ? kJoined / channels * channels : channels;
  }

  // Calls run(first element, first pixel, number of elements).
  template <bool planes, typename Run>
  void for_runs(const Run& run) const {
    const int64_t step = planes ? kRun : row, total = planes ? pixels : pixels * channels;
    for (int64_t i = 0; i < total; i += step) {
      run(element + i, pixel + (planes ? i : i / channels), std::min(step, total - i));
    }
  }
};

// A channel's number for every element of a run: the same in a plane, one per element of a row.
template <typename A, bool planes>
class Numbers {
 public:
  Numbers(const ChannelNumbers& numbers, const Place& place) {
    const A* data = static_cast<const A*>(numbers.data);
    if (data != nullptr) data += place.sample * numbers.stride_n;
    const auto of = [&](int64_t c) { return data == nullptr ? A(numbers.otherwise) : data[c * numbers.stride_c]; };
    if constexpr (planes) {
      one_ = of(place.channel);
    } else if (data != nullptr && numbers.stride_c == 1 && place.row == place.channels) {
      row_ = data;
    } else {
      copy_.resize(place.row);
      for (int64_t i = 0; i < place.row; ++i) copy_[i] = of(i % place.channels);
      row_ = copy_.data();
    }
  }

  A operator[](int64_t i) const { return planes ? one_ : row_[i]; }

 private:
  A one_ = 0;
  const A* row_ = nullptr;
  std::vector<A> copy_;
};

// The noise of every element of a run: one per element of a plane, the same in a row.
template <typename A, bool planes>
class Noise {
 public:
  Noise(const PixelNumbers& numbers, const Place& place, int64_t pixel) {
    if (numbers.data == nullptr) return;  // zeros cost less than loops of their own
    at_ = static_cast<const A*>(numbers.data) + place.sample * numbers.stride_n + pixel;
    one_ = planes ? A(0) : *at_;
  }

  A operator[](int64_t i) const { return planes ? at_[i] : one_; }

 private:
  static constexpr A kZeros[kRun] = {};
  const A* at_ = kZeros;
  A one_ = 0;
};

// A sum over a unit's pixels: one number for a plane, one per element of a row. Kept nowhere if `parts` is null.
template <typename A, bool planes>
class Sum {
 public:
  Sum(double* parts, const Place& place) {
    if (!planes) row_.resize(place.row);
    if (parts == nullptr) return;
    const int64_t channels = planes ? 1 : place.channels;
    total_ = parts + place.unit * channels;
    std::fill(total_, total_ + channels, 0.0);
  }

  A* row() { return row_.data(); }

  // After a run: `sum` is that of a plane's run. Rows are moved to the total some at a time, or when it is the `last`.
  void add(A sum, const Place& place, bool last) {
    if (total_ == nullptr) return;
    if (planes) {
      *total_ += sum;
    } else if (last || ++runs_ % kRows == 0) {
      for (int64_t i = 0; i < place.row; i += place.channels) {
        for (int64_t c = 0; c < place.channels; ++c) total_[c] += row_[i + c];
      }
      std::fill(row_.begin(), row_.end(), A(0));
    }
  }

 private:
  double* total_ = nullptr;
  std::vector<A> row_;
  int64_t runs_ = 0;
};

template <typename T>
const T* from(const void* data, int64_t element) {
  return data == nullptr ? nullptr : static_cast<const T*>(data) + element;
}
template <typename T>
T* into(void* data, int64_t element) {
  return data == nullptr ? nullptr : static_cast<T*>(data) + element;
}

template <typename T, Activation act, bool planes>
void forward(const StyledBiasActParams& p, int64_t begin, int64_t end) {
  using A = arithmetic_t<T>;
  const BiasActConstants<A> k(p.alpha, p.gain, p.clamp);
  const StyledUnits units(p.shape);
  for (int64_t unit = begin; unit < end; ++unit) {
    const Place place(p.shape, units, unit, p.noise.data == nullptr);
    const Numbers<A, planes> scale(p.scale, place), strength(p.strength, place), b(p.b, place);
    place.for_runs<planes>([&](int64_t at, int64_t pixel, int64_t n) {
      const T* __restrict x = from<T>(p.x, at);
      T* __restrict y = into<T>(p.y, at);
      const Noise<A, planes> noise(p.noise, place, pixel);
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) {
        const A u = styled(load(x[i]), scale[i], noise[i], strength[i], b[i]);
        store(y[i], bias_act<act>(u, k));
      }
    });
  }
}

template <typename T, bool planes, bool with_ref, bool with_x, bool with_parameters>
void backward(const StyledBiasActBackwardParams& p, int64_t begin, int64_t end) {
  using A = arithmetic_t<T>;
  const BiasActConstants<A> k = piecewise_linear<A>(p.act, p.alpha, p.gain, p.clamp);
  const StyledUnits units(p.shape);
  const bool x_is_y = p.x_is_y;
  for (int64_t unit = begin; unit < end; ++unit) {
    const Place place(p.shape, units, unit, p.noise.data == nullptr);
    const Numbers<A, planes> scale(p.scale, place);
    Sum<A, planes> sum_x(p.sum_x, place), sum_noise(p.sum_noise, place), sum_b(p.sum_b, place);
    place.for_runs<planes>([&](int64_t at, int64_t pixel, int64_t n) {
      const T* __restrict dy = from<T>(p.dy, at);
      const T* __restrict ref = from<T>(p.ref, at);
      const T* __restrict x = from<T>(p.x, at);
      T* __restrict dx = into<T>(p.dx, at);
      const Noise<A, planes> noise(p.noise, place, pixel);
      A* __restrict row_x = sum_x.row();
      A* __restrict row_noise = sum_noise.row();
      A* __restrict row_b = sum_b.row();
      A times_x = 0, times_noise = 0, plain = 0;
#pragma omp simd reduction(+ : times_x, times_noise, plain)
      for (int64_t i = 0; i < n; ++i) {
        const A slope = with_ref ? bias_act_slope<Activation::lrelu, false>(load(ref[i]), k) : k.gain;
        const A du = load(dy[i]) * slope;
        store(dx[i], du * scale[i]);
        if constexpr (with_x) {
          const A per_slope = slope == 0 ? A(0) : A(load(dy[i]));
          (planes ? times_x : row_x[i]) += (x_is_y ? per_slope : du) * load(x[i]);
        }
        if constexpr (with_parameters) {
          (planes ? times_noise : row_noise[i]) += du * noise[i];
          (planes ? plain : row_b[i]) += du;
        }
      }
      const bool last = at + n == place.element + place.pixels * units.channels;
      sum_x.add(times_x, place, last);
      sum_noise.add(times_noise, place, last);
      sum_b.add(plain, place, last);
    });
  }
}

template <typename T, bool planes, bool with_ref, bool with_dy, bool with_x>
void backward_backward(const StyledBiasActBackwardBackwardParams& p, int64_t begin, int64_t end) {
  using A = arithmetic_t<T>;
  const BiasActConstants<A> k = piecewise_linear<A>(p.act, p.alpha, p.gain, p.clamp);
  const StyledUnits units(p.shape);
  for (int64_t unit = begin; unit < end; ++unit) {
    const Place place(p.shape, units, unit, p.noise.data == nullptr);
    const Numbers<A, planes> scale(p.scale, place), dd_scale(p.dd_scale, place);
    const Numbers<A, planes> dd_strength(p.dd_strength, place), dd_b(p.dd_b, place);
    Sum<A, planes> sum_scale(p.sum_scale, place);
    place.for_runs<planes>([&](int64_t at, int64_t pixel, int64_t n) {
      const T* __restrict dy = from<T>(p.dy, at);
      const T* __restrict ref = from<T>(p.ref, at);
      const T* __restrict x = from<T>(p.x, at);
      const T* __restrict ddx = from<T>(p.ddx, at);
      T* __restrict grad_dy = into<T>(p.grad_dy, at);
      T* __restrict grad_x = into<T>(p.grad_x, at);
      const Noise<A, planes> noise(p.noise, place, pixel);
      A* __restrict row = sum_scale.row();
      A sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < n; ++i) {
        const A slope = with_ref ? bias_act_slope<Activation::lrelu, false>(load(ref[i]), k) : k.gain;
        const A v = load(ddx[i]);
        A w = styled(v, scale[i], noise[i], dd_strength[i], dd_b[i]);
        if constexpr (with_x) w += dd_scale[i] * load(x[i]);
        store(grad_dy[i], slope * w);
        if constexpr (with_dy) {
          const A du = load(dy[i]) * slope;
          if constexpr (with_x) store(grad_x[i], dd_scale[i] * du);
          (planes ? sum : row[i]) += v * du;
        }
      }
      sum_scale.add(sum, place, at + n == place.element + place.pixels * units.channels);
    });
  }
}

}  // namespace

void styled_bias_act(const StyledBiasActParams& p, int64_t begin, int64_t end) {
  for_type(p.shape.dtype, [&]<typename T>() {
    for_activation(p.act, [&]<Activation act>() {
      for_flags([&]<bool planes>() { forward<T, act, planes>(p, begin, end); }, !p.shape.channels_last);
    });
  });
}

void styled_bias_act_backward(const StyledBiasActBackwardParams& p, int64_t begin, int64_t end) {
  for_type(p.shape.dtype, [&]<typename T>() {
    for_flags([&]<bool... flags>() { backward<T, flags...>(p, begin, end); }, !p.shape.channels_last, p.ref != nullptr,
              p.x != nullptr, p.sum_noise != nullptr || p.sum_b != nullptr);
  });
}

void styled_bias_act_backward_backward(const StyledBiasActBackwardBackwardParams& p, int64_t begin, int64_t end) {
  for_type(p.shape.dtype, [&]<typename T>() {
    for_flags([&]<bool... flags>() { backward_backward<T, flags...>(p, begin, end); }, !p.shape.channels_last,
              p.ref != nullptr, p.dy != nullptr, p.x != nullptr);
  });
}

}  // namespace gankern::cpu::GANKERN_SIMD
