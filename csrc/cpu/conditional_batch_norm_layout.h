// How the loops of conditional_batch_norm walk through memory: in chunks that stay in the cache, of either layout.
#pragma once

#include <algorithm>
#include <limits>
#include <memory>
#include <type_traits>

#include "conditional_batch_norm.h"

namespace gankern::cpu::GANKERN_SIMD {

constexpr int64_t kChunk = 4096;      // elements that stay in the L1 cache from one loop to the next
constexpr int64_t kPixelsToSum = 64;  // of one channel, in the arithmetic type before they go to double

// What relu cuts off: u <= floor. Nothing is less than or equal to NaN.
template <typename A>
A floor_of(const BatchNormParams& p) {
  return p.relu ? A(0) : std::numeric_limits<A>::quiet_NaN();
}

// One layout of one type. A run is memory of x whose elements share their coefficients or, in channels_last, that
// begins with channel 0: `planes` means NCHW.
template <typename T, bool planes>
struct Layout {
  using A = arithmetic_t<T>;
  const BatchNormParams& p;
  int64_t step;  // rows of a plane, or pixels of a row, in a chunk

  explicit Layout(const BatchNormParams& p_) : p(p_) {
    step = std::max<int64_t>(1, planes ? kChunk / p.w : std::min(kPixelsToSum, kChunk / p.c));
  }

  // Room for the values of a chunk; not filled with zeros.
  std::unique_ptr<A[]> buffer() const { return std::unique_ptr<A[]>(new A[step * (planes ? p.w : p.c)]); }
  int64_t inner(int64_t count) const { return planes ? count : p.c; }

  // Calls body(offset in x, offset in y, number of elements) over rows [begin, end) of an image (and of channel c).
  template <typename Body>
  void for_chunks(int64_t n, int64_t c, int64_t begin, int64_t end, const Body& body) const {
    const int64_t up = p.up;
    if constexpr (planes) {
      const int64_t plane = n * p.c + c;
      for (int64_t row = begin; row < end; row += step) {
        body((plane * p.h + row) * p.w, (plane * p.h + row) * p.w * up * up, std::min(step, end - row) * p.w);
      }
    } else {
      for (int64_t row = n * p.h + begin; row < n * p.h + end; ++row) {
        for (int64_t i = 0; i < p.w; i += step) {
          body((row * p.w + i) * p.c, (row * p.w * up + i) * up * p.c, std::min(step, p.w - i) * p.c);
        }
      }
    }
  }

  // The gradient of a chunk, summed over the pixels that were one: `from` itself, or in `buffer`.
  const A* gathered(const T* __restrict from, int64_t count, A* __restrict buffer) const {
    if (p.up == 1) {
      if constexpr (std::is_same_v<T, A>) return from;
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) buffer[i] = load(from[i]);
      return buffer;
    }
    const int64_t next = planes ? 1 : p.c, down = 2 * p.w * next;  // to the pixel beside, below
    for (int64_t i = 0; i < count; i += planes ? p.w : p.c) {
      const T* __restrict upper = from + (planes ? 4 : 2) * i;
      const T* __restrict lower = upper + down;
      A* __restrict to = buffer + i;
      if constexpr (planes) {
#pragma omp simd
        for (int64_t j = 0; j < p.w; ++j) {
          to[j] = (load(upper[2 * j]) + load(upper[2 * j + 1])) + (load(lower[2 * j]) + load(lower[2 * j + 1]));
        }
      } else {
#pragma omp simd
        for (int64_t j = 0; j < p.c; ++j) {
          to[j] = (load(upper[j]) + load(upper[j + next])) + (load(lower[j]) + load(lower[j + next]));
        }
      }
    }
    return buffer;
  }

  // Where the values of a chunk are to be computed: in the result itself, or in `buffer`.
  A* target(T* to, A* buffer) const {
    if constexpr (std::is_same_v<T, A>) return p.up == 1 ? to : buffer;
    return buffer;
  }

  // Writes the values of a chunk, each to up * up pixels.
  void spread(const A* __restrict values, int64_t count, T* __restrict to) const {
    if (p.up == 1) {
      if constexpr (!std::is_same_v<T, A>) {
#pragma omp simd
        for (int64_t i = 0; i < count; ++i) store(to[i], values[i]);
      }
      return;
    }
    const int64_t next = planes ? 1 : p.c, down = 2 * p.w * next;
    for (int64_t i = 0; i < count; i += planes ? p.w : p.c) {
      T* __restrict upper = to + (planes ? 4 : 2) * i;
      const A* __restrict from = values + i;
      if constexpr (planes) {
#pragma omp simd
        for (int64_t j = 0; j < p.w; ++j) {
          T v;
          store(v, from[j]);
          upper[2 * j] = v;
          upper[2 * j + 1] = v;
        }
      } else {
#pragma omp simd
        for (int64_t j = 0; j < p.c; ++j) store(upper[j], from[j]);
        std::copy(upper, upper + p.c, upper + next);
      }
      std::copy(upper, upper + 2 * next * (planes ? p.w : 1), upper + down);
    }
  }
};

// The chunks of a unit: body(n, c, first row, last row).
template <bool planes, typename Body>
void for_images(const BatchNormParams& p, int64_t unit, const Body& body) {
  if constexpr (planes) {
    for (int64_t n = 0; n < p.n; ++n) body(n, unit, int64_t(0), p.h);
  } else {
    const BatchNormUnits units(p);
    const int64_t begin = unit % units.per_image * units.rows;
    body(unit / units.per_image, int64_t(0), begin, std::min(begin + units.rows, p.h));
  }
}

}  // namespace gankern::cpu::GANKERN_SIMD
