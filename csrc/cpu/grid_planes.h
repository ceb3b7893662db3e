// Images as planes of pixels `step` elements apart: NCHW, or channels_last with few channels. The two neighbours of a
// point in a row of pixels are copied side by side, point after point, and then the arithmetic is vectors of points.
#pragma once

#include "grid_points.h"
#include "vector.h"

namespace gankern::cpu::GANKERN_SIMD {

template <typename V>
GANKERN_HD V lerp(V from, V to, V fraction) {
  return from.plus(fraction, V{to.v - from.v});
}

template <typename T>
struct Pair {
  T left, right;
};

// The pixels around the points of a block in one plane, zero outside it.
template <typename T>
struct Neighbours {
  static constexpr int64_t kSize = Points<float>::kSize;
  Pair<T> upper[kSize] = {}, lower[kSize] = {};

  template <typename A>
  void gather(const T* plane, int64_t step, const Points<A>& points) {
    using Kind = typename Points<A>::Kind;
    const int64_t row = points.p.in_w * step;
    for (int64_t k = 0; k < points.runs; ++k) {
      const auto [begin, end, kind] = points.run[k];
      if (kind == Kind::inside && step == 1) {
        for (int64_t i = begin; i < end; ++i) {
          memcpy(&upper[i], plane + points.at[i], sizeof upper[i]);
          memcpy(&lower[i], plane + points.at[i] + row, sizeof lower[i]);
        }
      } else if (kind == Kind::inside) {
        for (int64_t i = begin; i < end; ++i) {
          const T* from = plane + points.at[i] * step;
          upper[i] = {from[0], from[step]}, lower[i] = {from[row], from[row + step]};
        }
      } else {
        memset(static_cast<void*>(upper + begin), 0, (end - begin) * sizeof *upper);
        memset(static_cast<void*>(lower + begin), 0, (end - begin) * sizeof *lower);
        for (int64_t i = begin; i < end && kind == Kind::edge; ++i) {
          const T* from = plane + points.at[i] * step;
          if (points.has(i, 0)) upper[i].left = from[0];
          if (points.has(i, 1)) upper[i].right = from[step];
          if (points.has(i, 2)) lower[i].left = from[row];
          if (points.has(i, 3)) lower[i].right = from[row + step];
        }
      }
    }
  }

  template <typename V>
  GANKERN_HD V upper_at(int64_t i) const {
    return V::load(&upper[0].left + i);
  }
  template <typename V>
  GANKERN_HD V lower_at(int64_t i) const {
    return V::load(&lower[0].left + i);
  }
};

// Numbers `step` elements apart, as a line in the arithmetic type; and back.
template <typename T, typename A>
void load_line(A* __restrict line, const T* __restrict from, int64_t step, int64_t n) {
  if (step == 1) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) line[i] = load(from[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) line[i] = load(from[i * step]);
  }
}

template <typename T, typename A>
void store_line(T* __restrict to, const A* __restrict line, int64_t step, int64_t n) {
  if (step == 1) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(to[i], line[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) store(to[i * step], line[i]);
  }
}

template <typename T, typename A>
void sample_plane(const Points<A>& points, Neighbours<T>& from, const T* x, T* y, int64_t step) {
  using V = Vec<A>;
  A line[Points<A>::kSize];
  from.gather(x, step, points);
  for (int64_t i = 0; i < points.count; i += V::size) {
    const int64_t j = 2 * i, k = j + V::size;
    const V a = lerp(from.template upper_at<V>(j), from.template lower_at<V>(j), V::load(points.yy + j));
    const V b = lerp(from.template upper_at<V>(k), from.template lower_at<V>(k), V::load(points.yy + k));
    lerp(even(a, b), odd(a, b), V::load(points.x + i)).store(line + i);
  }
  store_line(y, line, step, points.count);
}

// Adds dy times the slope of the image along x and along y, in pixels.
template <typename T, typename A>
void add_slopes(const Points<A>& points, Neighbours<T>& from, const T* x, const T* dy, int64_t step, A* along_x,
                A* along_y) {
  using V = Vec<A>;
  A line[Points<A>::kSize] = {};
  load_line(line, dy, step, points.count);
  from.gather(x, step, points);
  for (int64_t i = 0; i < points.count; i += V::size) {
    const int64_t j = 2 * i, k = j + V::size;
    const V a = from.template upper_at<V>(j), b = from.template upper_at<V>(k);
    const V down_a{from.template lower_at<V>(j).v - a.v}, down_b{from.template lower_at<V>(k).v - b.v};
    const V row_a = a.plus(V::load(points.yy + j), down_a), row_b = b.plus(V::load(points.yy + k), down_b);
    const V right{odd(row_a, row_b).v - even(row_a, row_b).v};
    const V down = lerp(even(down_a, down_b), odd(down_a, down_b), V::load(points.x + i));
    const V d = V::load(line + i);
    V::load(along_x + i).plus(d, right).store(along_x + i);
    V::load(along_y + i).plus(d, down).store(along_y + i);
  }
}

// Adds the lines of dy to `planes` planes, `pitch` elements apart: side by side, so that the additions to neighbouring
// pixels do not wait for each other.
template <int planes, typename A>
void spread_to_planes(const Points<A>& points, const A (*line)[Points<A>::kSize], A* dx, int64_t step, int64_t pitch) {
  using Kind = typename Points<A>::Kind;
  const int64_t row = points.p.in_w * step;
  for (int64_t k = 0; k < points.runs; ++k) {
    const auto [begin, end, kind] = points.run[k];
    for (int64_t i = begin; i < end && kind != Kind::outside; ++i) {
      A weight[4];
      points.weights(i, weight);
      A* to = dx + points.at[i] * step;
      for (int plane = 0; plane < planes; ++plane, to += pitch) {
        const A d = line[plane][i];
        if (kind == Kind::inside) {
          to[0] += d * weight[0], to[step] += d * weight[1];
          to[row] += d * weight[2], to[row + step] += d * weight[3];
          continue;
        }
        if (points.has(i, 0)) to[0] += d * weight[0];
        if (points.has(i, 1)) to[step] += d * weight[1];
        if (points.has(i, 2)) to[row] += d * weight[2];
        if (points.has(i, 3)) to[row + step] += d * weight[3];
      }
    }
  }
}

}  // namespace gankern::cpu::GANKERN_SIMD
