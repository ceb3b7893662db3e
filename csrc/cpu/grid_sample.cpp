// The three passes, over blocks of points that are found first, by vectors.
#include "grid_sample.h"

#include <cstdlib>
#include <type_traits>

#include "grid_pixels.h"
#include "grid_planes.h"

namespace gankern::cpu::GANKERN_SIMD {

namespace {

// Where things lie: `step` from pixel to pixel and from point to point; from channel to channel it is the rest.
struct Layout {
  int64_t step, x_plane, y_plane;
  bool vectors;  // of channels

  template <typename A>
  Layout(const GridSampleParams& p, A)
      : step(p.channels_last ? p.c : 1),
        x_plane(p.channels_last ? 1 : p.in_h * p.in_w),
        y_plane(p.channels_last ? 1 : p.points),
        vectors(p.channels_last && p.c >= Vec<A>::size) {}
};

template <typename T>
struct Zeros {
  T* row;
  explicit Zeros(int64_t n) : row(static_cast<T*>(std::calloc(n + 1, sizeof(T)))) {}
  ~Zeros() { std::free(row); }
  Zeros(const Zeros&) = delete;
};

template <typename T>
void forward(const GridSampleParams& p, int64_t begin, int64_t end) {
  using A = arithmetic_t<T>;
  const Layout layout(p, A());
  const Zeros<T> zeros(layout.vectors ? p.c : 0);
  Points<A> points(p);
  Neighbours<T> neighbours;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t image = unit / grid_blocks(p), block = unit % grid_blocks(p);
    points.find(image, block);
    const T* x = static_cast<const T*>(p.x) + image * p.c * p.in_h * p.in_w;
    T* y = static_cast<T*>(p.y) + image * p.c * p.points + block * kGridBlock * layout.step;
    if (layout.vectors) {
      sample_pixels(points, zeros.row, x, y);
    } else {
      for (int64_t c = 0; c < p.c; ++c, x += layout.x_plane, y += layout.y_plane) {
        sample_plane(points, neighbours, x, y, layout.step);
      }
    }
  }
}

template <typename G, typename A>
void store_moves(const Points<A>& points, const A* along_x, const A* along_y, G* to) {
  for (int64_t i = 0; i < points.count; ++i) {
    store(to[2 * i], along_x[i] * points.axis_x.scale);
    store(to[2 * i + 1], along_y[i] * points.axis_y.scale);
  }
}

template <typename T>
void grid_gradient(const GridSampleParams& p, int64_t begin, int64_t end) {
  using A = arithmetic_t<T>;
  const Layout layout(p, A());
  const Zeros<T> zeros(layout.vectors ? p.c : 0);
  Points<A> points(p);
  Neighbours<T> neighbours;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t image = unit / grid_blocks(p), block = unit % grid_blocks(p);
    A along_x[Points<A>::kSize] = {}, along_y[Points<A>::kSize] = {};
    points.find(image, block);
    const T* x = static_cast<const T*>(p.x) + image * p.c * p.in_h * p.in_w;
    const T* dy = static_cast<const T*>(p.dy) + image * p.c * p.points + block * kGridBlock * layout.step;
    if (layout.vectors) {
      slopes_of_pixels(points, zeros.row, x, dy, along_x, along_y);
    } else {
      for (int64_t c = 0; c < p.c; ++c, x += layout.x_plane, dy += layout.y_plane) {
        add_slopes(points, neighbours, x, dy, layout.step, along_x, along_y);
      }
    }
    for_type(p.grid_dtype, [&]<typename G>() {
      store_moves(points, along_x, along_y, static_cast<G*>(p.dgrid) + 2 * (image * p.points + block * kGridBlock));
    });
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

template <typename A>
void spread(const Points<A>& points, int64_t planes, const A (*line)[Points<A>::kSize], A* dx, int64_t step,
            int64_t pitch) {
  switch (planes) {
    case 1:
      return spread_to_planes<1>(points, line, dx, step, pitch);
    case 2:
      return spread_to_planes<2>(points, line, dx, step, pitch);
    case 3:
      return spread_to_planes<3>(points, line, dx, step, pitch);
    default:
      return spread_to_planes<4>(points, line, dx, step, pitch);
  }
}

// Channels [first, first + count) of one image.
template <typename T>
void gradient_of_channels(const GridSampleParams& p, Points<arithmetic_t<T>>& points, const Sums<T>& sums,
                          int64_t image, int64_t first, int64_t count) {
  using A = arithmetic_t<T>;
  const Layout layout(p, A());
  const int64_t pixels = p.in_h * p.in_w;
  const int64_t step = p.channels_last && !sums.kDirect ? count : layout.step;  // of the sums
  T* dx = static_cast<T*>(p.dx) + image * p.c * pixels + first * layout.x_plane;
  const T* dy = static_cast<const T*>(p.dy) + image * p.c * p.points + first * layout.y_plane;
  A* total = sums.of(dx);
  const int64_t rows = p.channels_last ? pixels : count, columns = p.channels_last ? count : pixels;
  const int64_t pitch = p.channels_last ? step : pixels, dx_pitch = p.channels_last ? p.c : pixels;
  for (int64_t i = 0; i < rows; ++i) memset(static_cast<void*>(total + i * pitch), 0, columns * sizeof(A));
  for (int64_t block = 0; block < grid_blocks(p); ++block, dy += kGridBlock * layout.step) {
    points.find(image, block);
    if (layout.vectors) {
      spread_to_pixels(points, dy, total, step, count);
      continue;
    }
    for (int64_t c = 0; c < count; c += 4) {
      const int64_t planes = count - c < 4 ? count - c : 4;
      A line[4][Points<A>::kSize];
      for (int64_t k = 0; k < planes; ++k) {
        load_line(line[k], dy + (c + k) * layout.y_plane, layout.step, points.count);
      }
      spread(points, planes, line, total + c * layout.x_plane, step, layout.x_plane);
    }
  }
  for (int64_t i = 0; i < rows && !sums.kDirect; ++i) store_line(dx + i * dx_pitch, total + i * pitch, 1, columns);
}

template <typename T>
void input_gradient(const GridSampleParams& p, int64_t begin, int64_t end) {
  Points<arithmetic_t<T>> points(p);
  const Sums<T> sums(grid_group(p) * p.in_h * p.in_w);
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t image = unit / grid_groups(p), c = unit % grid_groups(p) * grid_group(p);
    gradient_of_channels(p, points, sums, image, c, p.c - c < grid_group(p) ? p.c - c : grid_group(p));
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
