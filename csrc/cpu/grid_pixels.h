// Images whose channels are neighbours and many: vectors of channels, point after point.
#pragma once

#include <type_traits>

#include "grid_points.h"
#include "vector.h"

namespace gankern::cpu::GANKERN_SIMD {

// The four pixels around a point, as rows of channels; `zeros` stands for one outside.
template <typename T>
struct Pixels {
  const T* at[4];

  template <typename A>
  GANKERN_HD Pixels(const T* image, const T* zeros, const Points<A>& points, int64_t i) {
    const int64_t channels = points.p.c, row = points.p.in_w * channels;
    const T* from = image + points.at[i] * channels;
    for (int k = 0; k < 4; ++k) at[k] = points.has(i, k) ? from + k / 2 * row + k % 2 * channels : zeros;
  }
};

// Calls body(c, whole) over vectors of channels; the last may be a part of one.
template <typename V, typename Body>
GANKERN_HD void for_channels(int64_t end, const Body& body) {
  int64_t c = 0;
  for (; c + V::size <= end; c += V::size) body(c, std::true_type());
  if (c < end) body(c, std::false_type());
}

template <typename V, typename T, typename Whole>
GANKERN_HD V load_channels(const T* from, int64_t c, int64_t end, Whole) {
  return Whole::value ? V::load(from + c) : V::load(from + c, 0, end - c);
}

template <typename V, typename T, typename Whole>
GANKERN_HD void store_channels(V v, T* to, int64_t c, int64_t end, Whole) {
  if (Whole::value) {
    v.store(to + c);
  } else {
    v.store(to + c, 0, end - c);
  }
}

template <typename T, typename A>
void sample_pixels(const Points<A>& points, const T* zeros, const T* x, T* y) {
  using V = Vec<A>;
  const int64_t channels = points.p.c;
  for (int64_t i = 0; i < points.count; ++i, y += channels) {
    const Pixels<T> pixels(x, zeros, points, i);
    A weight[4];
    points.weights(i, weight);
    const V w0 = V::fill(weight[0]), w1 = V::fill(weight[1]), w2 = V::fill(weight[2]), w3 = V::fill(weight[3]);
    for_channels<V>(channels, [&](int64_t c, auto whole) __attribute__((always_inline)) {
      const auto pixel = [&](int k) { return load_channels<V>(pixels.at[k], c, channels, whole); };
      const V upper = V::fill(0).plus(w0, pixel(0)).plus(w1, pixel(1));
      store_channels(upper.plus(w2, pixel(2)).plus(w3, pixel(3)), y, c, channels, whole);
    });
  }
}

template <typename V, typename A>
GANKERN_HD A sum_of(V v) {
  A each[V::size], total = 0;
  v.store(each);
  for (int k = 0; k < V::size; ++k) total += each[k];
  return total;
}

// The sum over the channels of dy times the slope of the image along x and along y, in pixels.
template <typename T, typename A>
void slopes_of_pixels(const Points<A>& points, const T* zeros, const T* x, const T* dy, A* along_x, A* along_y) {
  using V = Vec<A>;
  const int64_t channels = points.p.c;
  for (int64_t i = 0; i < points.count; ++i, dy += channels) {
    const Pixels<T> pixels(x, zeros, points, i);
    const V to_right = V::fill(points.x[i]), to_bottom = V::fill(points.y[i]);
    V right = V::fill(0), down = V::fill(0);
    for_channels<V>(channels, [&](int64_t c, auto whole) __attribute__((always_inline)) {
      const auto pixel = [&](int k) { return load_channels<V>(pixels.at[k], c, channels, whole); };
      const V a = pixel(0), b = pixel(1), e = pixel(2), f = pixel(3), d = load_channels<V>(dy, c, channels, whole);
      const V above{b.v - a.v}, below{f.v - e.v}, left{e.v - a.v}, further{f.v - b.v};
      right = right.plus(d, above.plus(to_bottom, V{below.v - above.v}));
      down = down.plus(d, left.plus(to_right, V{further.v - left.v}));
    });
    along_x[i] = sum_of<V, A>(right), along_y[i] = sum_of<V, A>(down);
  }
}

// Adds dy to `count` channels of the pixels of dx, `step` elements apart.
template <typename T, typename A>
void spread_to_pixels(const Points<A>& points, const T* dy, A* dx, int64_t step, int64_t count) {
  using V = Vec<A>;
  for (int64_t i = 0; i < points.count; ++i, dy += points.p.c) {
    A weight[4];
    points.weights(i, weight);
    for (int k = 0; k < 4; ++k) {
      if (!points.has(i, k)) continue;
      A* to = dx + (points.at[i] + k / 2 * points.p.in_w + k % 2) * step;
      const V w = V::fill(weight[k]);
      for_channels<V>(count, [&](int64_t c, auto whole) __attribute__((always_inline)) {
        const V sum = load_channels<V>(to, c, count, whole).plus(w, load_channels<V>(dy, c, count, whole));
        store_channels(sum, to, c, count, whole);
      });
    }
  }
}

}  // namespace gankern::cpu::GANKERN_SIMD
