// Both layouts work on blocks of points, whose pixels and fractions are found first, by vectors.
// NCHW: the two neighbours of a point in a row of pixels are copied side by side, point after point, so that the
// arithmetic is vectors of points without a gather. channels_last: vectors of channels.
#include "grid_sample.h"

#include <cstdlib>
#include <type_traits>

#include "grid_points.h"
#include "vector.h"

namespace gankern::cpu::GANKERN_SIMD {

namespace {

template <typename V>
GANKERN_HD V lerp(V from, V to, V fraction) {
  return from.plus(fraction, V{to.v - from.v});
}

// ---- NCHW

template <typename T>
struct Pair {
  T left, right;
};

// The pixels around the points of a block in one plane, zero outside it.
template <typename T>
struct Neighbours {
  Pair<T> upper[Points<float>::kSize] = {}, lower[Points<float>::kSize] = {};

  template <typename A>
  void gather(const T* plane, const Points<A>& points) {
    const int64_t w = points.p.in_w;
    if (points.all_inside) {
      for (int64_t i = 0; i < points.count; ++i) {
        memcpy(&upper[i], plane + points.at[i], sizeof upper[i]);
        memcpy(&lower[i], plane + points.at[i] + w, sizeof lower[i]);
      }
      return;
    }
    for (int64_t i = 0; i < points.count; ++i) {
      const int bits = points.inside[i];
      const T* from = plane + points.at[i];
      upper[i] = lower[i] = {};
      if (bits == 15) {
        memcpy(&upper[i], from, sizeof upper[i]);
        memcpy(&lower[i], from + w, sizeof lower[i]);
        continue;
      }
      if ((bits & 5) == 5) upper[i].left = from[0];
      if ((bits & 6) == 6) upper[i].right = from[1];
      if ((bits & 9) == 9) lower[i].left = from[w];
      if ((bits & 10) == 10) lower[i].right = from[w + 1];
    }
  }
};

// A vector of points: their two upper and two lower neighbours, from pairs.
template <typename V>
struct Square {
  V upper_left, upper_right, lower_left, lower_right;

  template <typename T>
  GANKERN_HD Square(const Neighbours<T>& from, int64_t i) {
    const T *upper = &from.upper[i].left, *lower = &from.lower[i].left;
    const V a = V::load(upper), b = V::load(upper + V::size), c = V::load(lower), d = V::load(lower + V::size);
    upper_left = even(a, b), upper_right = odd(a, b), lower_left = even(c, d), lower_right = odd(c, d);
  }
};

template <typename T>
void sample_planes(const GridSampleParams& p, const Points<arithmetic_t<T>>& points, int64_t image, int64_t first) {
  using V = Vec<arithmetic_t<T>>;
  Neighbours<T> neighbours;
  for (int64_t c = 0; c < p.c; ++c) {
    neighbours.gather(static_cast<const T*>(p.x) + (image * p.c + c) * p.in_h * p.in_w, points);
    T* to = static_cast<T*>(p.y) + (image * p.c + c) * p.points + first;
    for (int64_t i = 0; i < points.count; i += V::size) {
      const Square<V> s(neighbours, i);
      const V x = V::load(points.x + i), y = V::load(points.y + i);
      const V result = lerp(lerp(s.upper_left, s.upper_right, x), lerp(s.lower_left, s.lower_right, x), y);
      if (i + V::size <= points.count) {
        result.store(to + i);
      } else {
        result.store(to + i, 0, points.count - i);
      }
    }
  }
}

// Adds up over the channels dy times the slope of the image along x and along y, in pixels.
template <typename T, typename A>
void slopes_of_planes(const GridSampleParams& p, const Points<A>& points, int64_t image, int64_t first, A* along_x,
                      A* along_y) {
  using V = Vec<A>;
  Neighbours<T> neighbours;
  for (int64_t c = 0; c < p.c; ++c) {
    neighbours.gather(static_cast<const T*>(p.x) + (image * p.c + c) * p.in_h * p.in_w, points);
    const T* from = static_cast<const T*>(p.dy) + (image * p.c + c) * p.points + first;
    for (int64_t i = 0; i < points.count; i += V::size) {
      const Square<V> s(neighbours, i);
      const V dy = V::load(from + i, 0, points.count - i);
      const V x = V::load(points.x + i), y = V::load(points.y + i);
      const V right = lerp(V{s.upper_right.v - s.upper_left.v}, V{s.lower_right.v - s.lower_left.v}, y);
      const V down = lerp(V{s.lower_left.v - s.upper_left.v}, V{s.lower_right.v - s.upper_right.v}, x);
      V::load(along_x + i).plus(dy, right).store(along_x + i);
      V::load(along_y + i).plus(dy, down).store(along_y + i);
    }
  }
}

// Adds dy to `planes` planes, side by side so that the additions to neighbouring pixels do not wait for each other.
template <int planes, typename T, typename A>
void spread_to_planes(const Points<A>& points, const T* dy, int64_t dy_pitch, A* dx, int64_t pitch) {
  const int64_t w = points.p.in_w;
  for (int64_t i = 0; i < points.count; ++i) {
    const int bits = points.inside[i];
    A weight[4];
    points.weights(i, weight);
    A* to = dx + points.at[i];
    for (int k = 0; k < planes; ++k) {
      const A d = load(dy[k * dy_pitch + i]);
      A* at = to + k * pitch;
      if (bits == 15) {
        at[0] += d * weight[0], at[1] += d * weight[1];
        at[w] += d * weight[2], at[w + 1] += d * weight[3];
        continue;
      }
      if ((bits & 5) == 5) at[0] += d * weight[0];
      if ((bits & 6) == 6) at[1] += d * weight[1];
      if ((bits & 9) == 9) at[w] += d * weight[2];
      if ((bits & 10) == 10) at[w + 1] += d * weight[3];
    }
  }
}

// ---- channels_last

// The four pixels around a point, as rows of channels; `zeros` stands for one outside.
template <typename T>
struct Pixels {
  const T* at[4];

  template <typename A>
  GANKERN_HD Pixels(const T* image, const T* zeros, const Points<A>& points, int64_t i, int64_t channels) {
    const int bits = points.inside[i];
    const T* from = image + points.at[i] * channels;
    const int64_t row = points.p.in_w * channels;
    at[0] = (bits & 5) == 5 ? from : zeros;
    at[1] = (bits & 6) == 6 ? from + channels : zeros;
    at[2] = (bits & 9) == 9 ? from + row : zeros;
    at[3] = (bits & 10) == 10 ? from + row + channels : zeros;
  }
};

// Calls body(c, lanes) over vectors of channels, with lanes < V::size in the last if it is a part.
template <typename V, typename Body>
GANKERN_HD void for_channels(int64_t begin, int64_t end, const Body& body) {
  int64_t c = begin;
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

template <typename T>
void sample_pixels(const GridSampleParams& p, const Points<arithmetic_t<T>>& points, const T* zeros, int64_t image,
                   int64_t first) {
  using A = arithmetic_t<T>;
  using V = Vec<A>;
  const T* from = static_cast<const T*>(p.x) + image * p.in_h * p.in_w * p.c;
  T* to = static_cast<T*>(p.y) + (image * p.points + first) * p.c;
  for (int64_t i = 0; i < points.count; ++i, to += p.c) {
    const Pixels<T> pixels(from, zeros, points, i, p.c);
    const V x = V::fill(points.x[i]), y = V::fill(points.y[i]);
    for_channels<V>(0, p.c, [&](int64_t c, auto whole) __attribute__((always_inline)) {
      const auto pixel = [&](int k) { return load_channels<V>(pixels.at[k], c, p.c, whole); };
      store_channels(lerp(lerp(pixel(0), pixel(1), x), lerp(pixel(2), pixel(3), x), y), to, c, p.c, whole);
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

template <typename T, typename A>
void slopes_of_pixels(const GridSampleParams& p, const Points<A>& points, const T* zeros, int64_t image, int64_t first,
                      A* along_x, A* along_y) {
  using V = Vec<A>;
  const T* from = static_cast<const T*>(p.x) + image * p.in_h * p.in_w * p.c;
  const T* dy = static_cast<const T*>(p.dy) + (image * p.points + first) * p.c;
  for (int64_t i = 0; i < points.count; ++i, dy += p.c) {
    const Pixels<T> pixels(from, zeros, points, i, p.c);
    const V x = V::fill(points.x[i]), y = V::fill(points.y[i]);
    V right = V::fill(0), down = V::fill(0);
    for_channels<V>(0, p.c, [&](int64_t c, auto whole) __attribute__((always_inline)) {
      const auto pixel = [&](int k) { return load_channels<V>(pixels.at[k], c, p.c, whole); };
      const V a = pixel(0), b = pixel(1), e = pixel(2), f = pixel(3), d = load_channels<V>(dy, c, p.c, whole);
      right = right.plus(d, lerp(V{b.v - a.v}, V{f.v - e.v}, y));
      down = down.plus(d, lerp(V{e.v - a.v}, V{f.v - b.v}, x));
    });
    along_x[i] = sum_of<V, A>(right), along_y[i] = sum_of<V, A>(down);
  }
}

// Adds dy to the channels [begin, end); dx has `pitch` elements a pixel and starts with channel `begin`.
template <typename T, typename A>
void spread_to_pixels(const GridSampleParams& p, const Points<A>& points, const T* dy, A* dx, int64_t pitch,
                      int64_t begin, int64_t end) {
  using V = Vec<A>;
  for (int64_t i = 0; i < points.count; ++i, dy += p.c) {
    const int bits = points.inside[i];
    A weight[4];
    points.weights(i, weight);
    for (int k = 0; k < 4; ++k) {
      const int needed = (1 << k % 2) | (4 << k / 2);
      if ((bits & needed) != needed) continue;
      A* to = dx + (points.at[i] + k / 2 * p.in_w + k % 2) * pitch - begin;
      const V w = V::fill(weight[k]);
      for_channels<V>(begin, end, [&](int64_t c, auto whole) __attribute__((always_inline)) {
        const V sum = load_channels<V>(to, c, end, whole).plus(w, load_channels<V>(dy, c, end, whole));
        store_channels(sum, to, c, end, whole);
      });
    }
  }
}

// ---- the three passes

template <typename T>
struct Zeros {
  T* row;
  explicit Zeros(int64_t n) : row(static_cast<T*>(std::calloc(n + 1, sizeof(T)))) {}
  ~Zeros() { std::free(row); }
  Zeros(const Zeros&) = delete;
};

template <typename T>
void forward(const GridSampleParams& p, int64_t begin, int64_t end) {
  Points<arithmetic_t<T>> points(p);
  const Zeros<T> zeros(p.channels_last ? p.c : 0);
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t image = unit / grid_blocks(p), block = unit % grid_blocks(p);
    points.find(image, block);
    if (p.channels_last) {
      sample_pixels<T>(p, points, zeros.row, image, block * kGridBlock);
    } else {
      sample_planes<T>(p, points, image, block * kGridBlock);
    }
  }
}

template <typename G, typename A>
void store_moves(const Points<A>& points, const A* along_x, const A* along_y, void* dgrid, int64_t first) {
  G* to = static_cast<G*>(dgrid) + 2 * first;
  for (int64_t i = 0; i < points.count; ++i) {
    store(to[2 * i], along_x[i] * points.axis_x.scale);
    store(to[2 * i + 1], along_y[i] * points.axis_y.scale);
  }
}

template <typename T>
void grid_gradient(const GridSampleParams& p, int64_t begin, int64_t end) {
  using A = arithmetic_t<T>;
  Points<A> points(p);
  const Zeros<T> zeros(p.channels_last ? p.c : 0);
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t image = unit / grid_blocks(p), block = unit % grid_blocks(p), first = block * kGridBlock;
    A along_x[Points<A>::kSize] = {}, along_y[Points<A>::kSize] = {};
    points.find(image, block);
    if (p.channels_last) {
      slopes_of_pixels<T>(p, points, zeros.row, image, first, along_x, along_y);
    } else {
      slopes_of_planes<T>(p, points, image, first, along_x, along_y);
    }
    const int64_t at = image * p.points + first;
    for_type(p.grid_dtype,
             [&]<typename G>() { store_moves<G>(points, along_x, along_y, p.dgrid, image * p.points + first); });
  }
}

// The sums of a group of channels: dx itself if it has the arithmetic type, else memory of its own, rounded at the end.
template <typename T>
struct Sums {
  using A = arithmetic_t<T>;
  static constexpr bool kDirect = std::is_same_v<A, T>;
  A* memory = nullptr;

  explicit Sums(int64_t n) {
    if (!kDirect) memory = static_cast<A*>(std::malloc(n * sizeof(A)));
  }
  ~Sums() { std::free(memory); }
  Sums(const Sums&) = delete;

  // Where the sums of dx[0], dx[1], ... are made.
  A* of(T* dx) const {
    if constexpr (kDirect) {
      return dx;
    } else {
      return memory;
    }
  }
};

template <typename T, typename A>
void spread(const Points<A>& points, int planes, const T* dy, int64_t dy_pitch, A* dx, int64_t pitch) {
  switch (planes) {
    case 1:
      return spread_to_planes<1>(points, dy, dy_pitch, dx, pitch);
    case 2:
      return spread_to_planes<2>(points, dy, dy_pitch, dx, pitch);
    case 3:
      return spread_to_planes<3>(points, dy, dy_pitch, dx, pitch);
    default:
      return spread_to_planes<4>(points, dy, dy_pitch, dx, pitch);
  }
}

// Channels [c, c + count) of one image, which lie side by side: planes.
template <typename T>
void gradient_of_planes(const GridSampleParams& p, Points<arithmetic_t<T>>& points, const Sums<T>& sums, int64_t image,
                        int64_t c, int64_t count) {
  const int64_t pixels = p.in_h * p.in_w;
  T* dx = static_cast<T*>(p.dx) + (image * p.c + c) * pixels;
  auto* total = sums.of(dx);
  memset(static_cast<void*>(total), 0, count * pixels * sizeof *total);
  const T* dy = static_cast<const T*>(p.dy) + (image * p.c + c) * p.points;
  for (int64_t block = 0; block < grid_blocks(p); ++block) {
    points.find(image, block);
    spread(points, int(count), dy + block * kGridBlock, p.points, total, pixels);
  }
  if (sums.kDirect) return;
#pragma omp simd
  for (int64_t i = 0; i < count * pixels; ++i) store(dx[i], total[i]);
}

// The same where they are neighbours in each pixel.
template <typename T>
void gradient_of_pixels(const GridSampleParams& p, Points<arithmetic_t<T>>& points, const Sums<T>& sums, int64_t image,
                        int64_t c, int64_t count) {
  const int64_t pixels = p.in_h * p.in_w, pitch = sums.kDirect ? p.c : count;
  T* dx = static_cast<T*>(p.dx) + image * pixels * p.c + c;
  auto* total = sums.of(dx);
  for (int64_t i = 0; i < pixels; ++i) memset(static_cast<void*>(total + i * pitch), 0, count * sizeof *total);
  const T* dy = static_cast<const T*>(p.dy) + image * p.points * p.c;
  for (int64_t block = 0; block < grid_blocks(p); ++block) {
    points.find(image, block);
    spread_to_pixels(p, points, dy + block * kGridBlock * p.c, total, pitch, c, c + count);
  }
  if (sums.kDirect) return;
  for (int64_t i = 0; i < pixels; ++i) {
#pragma omp simd
    for (int64_t k = 0; k < count; ++k) store(dx[i * p.c + k], total[i * count + k]);
  }
}

template <typename T>
void input_gradient(const GridSampleParams& p, int64_t begin, int64_t end) {
  Points<arithmetic_t<T>> points(p);
  const Sums<T> sums(grid_group(p) * p.in_h * p.in_w);
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t image = unit / grid_groups(p), c = unit % grid_groups(p) * grid_group(p);
    const int64_t count = p.c - c < grid_group(p) ? p.c - c : grid_group(p);
    (p.channels_last ? gradient_of_pixels<T> : gradient_of_planes<T>)(p, points, sums, image, c, count);
  }
}

}  // namespace

void grid_sample(const GridSampleParams& p, int64_t begin, int64_t end) {
  for_type(p.dtype, [&]<typename T>() { forward<T>(p, begin, end); });
}

void grid_sample_grid_gradient(const GridSampleParams& p, int64_t begin, int64_t end) {
  for_type(p.dtype, [&]<typename T>() { grid_gradient<T>(p, begin, end); });
}

void grid_sample_input_gradient(const GridSampleParams& p, int64_t begin, int64_t end) {
  for_type(p.dtype, [&]<typename T>() { input_gradient<T>(p, begin, end); });
}

}  // namespace gankern::cpu::GANKERN_SIMD
