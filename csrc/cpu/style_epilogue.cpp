#include "style_epilogue.h"

#include <initializer_list>
#include <type_traits>

namespace gankern::cpu::GANKERN_SIMD {

namespace {

constexpr int64_t kLanes = StyleEpilogueUnits::kLanes;
constexpr int64_t kRows = 32;  // of a block, whose sums are in the arithmetic type; sums of blocks are in double

// Sums over rows for every lane.
template <int number, typename A>
struct Sums {
  A block[number][kLanes] = {};
  double total[number][kLanes] = {};

  void end_block(int64_t width) {
    for (int k = 0; k < number; ++k) {
      for (int64_t i = 0; i < width; ++i) total[k][i] += block[k][i], block[k][i] = 0;
    }
  }
};

// One unit: its rows of lanes. In a plane the lanes are pixels, and what belongs to the channel is the same in each; in
// channels_last they are channels, and the noise of a row is one number.
template <typename T, bool planes>
struct Unit {
  using A = arithmetic_t<T>;

  const StyleEpilogueParams& p;
  int64_t first;   // index [images, channels] of the first lane's channel
  int64_t at;      // of the first element
  int64_t width;   // lanes
  int64_t number;  // channels
  int64_t stride;  // of a row
  int64_t rows;    // full ones
  int64_t tail;    // lanes of one more row
  int64_t noise_step;
  const A* noise;
  A zeros[kLanes] = {};
  A strength[kLanes], b[kLanes], positive, negative;
  A mean[kLanes], rstd[kLanes];

  Unit(const StyleEpilogueParams& params, int64_t unit) : p(params), positive(p.gain), negative(p.gain * p.alpha) {
    const int64_t per_image = StyleEpilogueUnits(p).per_image, image = unit / per_image;
    const int64_t channel = unit % per_image * (planes ? 1 : kLanes);
    first = image * p.channels + channel;
    at = planes ? first * p.pixels : image * p.pixels * p.channels + channel;
    width = planes ? std::min(p.pixels, kLanes) : std::min(p.channels - channel, kLanes);
    number = planes ? 1 : width;
    stride = planes ? kLanes : p.channels;
    rows = planes ? p.pixels / kLanes : p.pixels;
    tail = planes ? p.pixels % kLanes : 0;
    noise = zeros, noise_step = 0;
    if (p.noise != nullptr) {
      noise = static_cast<const A*>(p.noise) + (p.noise_each ? image * p.pixels : 0);
      noise_step = planes ? kLanes : 1;
    }
    for (int64_t i = 0; i < number; ++i) {
      const int64_t c = channel + i;
      strength[i] = p.strength != nullptr ? static_cast<const A*>(p.strength)[p.strength_each ? c : 0] : A(1);
      b[i] = p.b != nullptr ? static_cast<const A*>(p.b)[c] : A(0);
    }
    spread({strength, b});
  }

  // In a plane, gives every lane what its channel has.
  void spread(std::initializer_list<A*> values) const {
    if (!planes) return;
    for (A* lane : values) std::fill(lane + 1, lane + width, lane[0]);
  }

  // values[images, channels] of channel i
  A of_channel(const void* values, int64_t i, A otherwise) const {
    return values != nullptr ? static_cast<const A*>(values)[first + i] : otherwise;
  }

  void read_statistics() {
    for (int64_t i = 0; i < number; ++i) mean[i] = of_channel(p.mean, i, 0), rstd[i] = of_channel(p.rstd, i, 0);
    spread({mean, rstd});
  }

  // Writes one number per channel to values[images, channels], if it is wanted.
  void write(void* values, const double* from) const {
    if (values == nullptr) return;
    A* to = static_cast<A*>(values) + first;
    for (int64_t i = 0; i < number; ++i) to[i] = A(from[i]);
  }

  // row(index, noise, width, number in the block) for every row, end_block(number of rows, width) after each block.
  template <typename Row, typename End>
  void for_rows(const Row& row, const End& end_block) const {
    if (width == kLanes) {
      full_rows(row, end_block, std::integral_constant<int64_t, kLanes>());
    } else {
      full_rows(row, end_block, width);
    }
    if (tail > 0) {
      row(at + rows * stride, noise + rows * noise_step, tail, int64_t(0));
      end_block(1, tail);
    }
  }

  template <typename Row, typename End, typename Width>
  void full_rows(const Row& row, const End& end_block, Width w) const {
    for (int64_t block = 0; block < rows; block += kRows) {
      const int64_t in_block = std::min(kRows, rows - block);
      for (int64_t r = 0; r < in_block; ++r) {
        row(at + (block + r) * stride, noise + (block + r) * noise_step, w, r);
      }
      end_block(in_block, w);
    }
  }

  // `one` is row[0], read before the loop over the lanes: in the loop it would keep that from being vectorised.
  GANKERN_HD static A noise_at(const A* row, A one, int64_t i) { return planes ? row[i] : one; }
  GANKERN_HD A preactivation(T x, A noise_here, int64_t i) const { return load(x) + (strength[i] * noise_here + b[i]); }
  GANKERN_HD A slope(A u) const { return u > A(0) ? positive : negative; }
  GANKERN_HD A normalised(A u, int64_t i) const { return (u * slope(u) - mean[i]) * rstd[i]; }

  // In a plane all lanes are one sum.
  template <int count>
  void join(Sums<count, A>& sums) const {
    if (!planes) return;
    for (auto& total : sums.total) {
      double all = 0;
#pragma omp simd reduction(+ : all)
      for (int64_t i = 0; i < width; ++i) all += total[i];
      total[0] = all;
    }
  }

  // Mean and variance: of each block around its own mean, so that a large mean does no harm, and joined pairwise.
  void find_statistics() {
    A values[kRows][kLanes], sum[kLanes] = {};
    double means[kLanes] = {}, squares[kLanes] = {};
    double before = 0;
    const T* __restrict x = static_cast<const T*>(p.x);
    for_rows(
        [&](int64_t from, const A* row, auto w, int64_t r) {
          const A one = row[0];
#pragma omp simd
          for (int64_t i = 0; i < w; ++i) {
            const A u = preactivation(x[from + i], noise_at(row, one, i), i), a = u * slope(u);
            values[r][i] = a;
            sum[i] += a;
          }
        },
        [&](int64_t in_block, auto w) {
          A own[kLanes], square[kLanes] = {};
#pragma omp simd
          for (int64_t i = 0; i < w; ++i) own[i] = sum[i] / A(in_block), sum[i] = 0;
          for (int64_t r = 0; r < in_block; ++r) {
#pragma omp simd
            for (int64_t i = 0; i < w; ++i) square[i] += (values[r][i] - own[i]) * (values[r][i] - own[i]);
          }
          const double part = double(in_block) / (before + double(in_block));
#pragma omp simd
          for (int64_t i = 0; i < w; ++i) {
            const double off = double(own[i]) - means[i];
            means[i] += off * part;
            squares[i] += double(square[i]) + off * off * before * part;
          }
          before += double(in_block);
        });
    if (planes) join_lanes(means, squares);
    double r[kLanes];
    for (int64_t i = 0; i < number; ++i) {
      r[i] = 1 / std::sqrt(squares[i] / double(p.pixels) + p.eps);
      mean[i] = A(means[i]), rstd[i] = A(r[i]);
    }
    spread({mean, rstd});
    write(p.mean, means);
    write(p.rstd, r);
  }

  void join_lanes(double* means, double* squares) const {
    double mean_of_all = 0, square = 0;
#pragma omp simd reduction(+ : mean_of_all)
    for (int64_t i = 0; i < width; ++i) mean_of_all += means[i] * double(rows + (i < tail));
    mean_of_all /= double(p.pixels);
#pragma omp simd reduction(+ : square)
    for (int64_t i = 0; i < width; ++i) {
      const double off = means[i] - mean_of_all;
      square += squares[i] + off * off * double(rows + (i < tail));
    }
    means[0] = mean_of_all, squares[0] = square;
  }

  void forward() {
    find_statistics();
    A k[kLanes], shift[kLanes];
    for (int64_t i = 0; i < number; ++i) {
      k[i] = of_channel(p.scale, i, 1) * rstd[i], shift[i] = of_channel(p.shift, i, 0);
    }
    spread({k, shift});
    const T* __restrict x = static_cast<const T*>(p.x);
    T* __restrict y = static_cast<T*>(p.out[0]);
    for_rows(
        [&](int64_t from, const A* row, auto w, int64_t) {
          const A one = row[0];
#pragma omp simd
          for (int64_t i = 0; i < w; ++i) {
            const A u = preactivation(x[from + i], noise_at(row, one, i), i);
            store(y[from + i], (u * slope(u) - mean[i]) * k[i] + shift[i]);
          }
        },
        [](int64_t, auto) {});
  }

  void backward() {
    read_statistics();
    const T* __restrict x = static_cast<const T*>(p.x);
    const T* __restrict dy = static_cast<const T*>(p.dy);
    Sums<2, A> sums;
    for_rows(
        [&](int64_t from, const A* row, auto w, int64_t) {
          const A one = row[0];
#pragma omp simd
          for (int64_t i = 0; i < w; ++i) {
            const A g = load(dy[from + i]);
            sums.block[0][i] += g;
            sums.block[1][i] += g * normalised(preactivation(x[from + i], noise_at(row, one, i), i), i);
          }
        },
        [&](int64_t, auto w) { sums.end_block(w); });
    join(sums);
    write(p.dshift, sums.total[0]);
    write(p.dscale, sums.total[1]);
    A k[kLanes], mean_dy[kLanes], mean_dy_z[kLanes];
    for (int64_t i = 0; i < number; ++i) {
      const StyleEpilogueBackward c(of_channel(p.scale, i, 1), rstd[i], sums.total[0][i], sums.total[1][i], p.pixels);
      k[i] = A(c.k), mean_dy[i] = A(c.mean_dy), mean_dy_z[i] = A(c.mean_dy_z);
    }
    spread({k, mean_dy, mean_dy_z});
    T* __restrict dx = static_cast<T*>(p.out[0]);
    Sums<2, A> totals;
    for_rows(
        [&](int64_t from, const A* row, auto w, int64_t) {
          const A one = row[0];
#pragma omp simd
          for (int64_t i = 0; i < w; ++i) {
            const A u = preactivation(x[from + i], noise_at(row, one, i), i), z = normalised(u, i);
            const A d = slope(u) * k[i] * (load(dy[from + i]) - mean_dy[i] - z * mean_dy_z[i]);
            store(dx[from + i], d);
            totals.block[0][i] += d;
            totals.block[1][i] += d * noise_at(row, one, i);
          }
        },
        [&](int64_t, auto w) { totals.end_block(w); });
    write_totals(totals);
  }

  void backward_backward() {
    read_statistics();
    const T* __restrict x = static_cast<const T*>(p.x);
    const T* __restrict dy = static_cast<const T*>(p.dy);
    const T* __restrict ddx = static_cast<const T*>(p.ddx);
    Sums<5, A> sums;
    for_rows(
        [&](int64_t from, const A* row, auto w, int64_t) {
          const A one = row[0];
#pragma omp simd
          for (int64_t i = 0; i < w; ++i) {
            const A u = preactivation(x[from + i], noise_at(row, one, i), i), z = normalised(u, i);
            const A g = load(dy[from + i]), h = load(ddx[from + i]) * slope(u);
            sums.block[0][i] += g;
            sums.block[1][i] += g * z;
            sums.block[2][i] += h;
            sums.block[3][i] += h * z;
            sums.block[4][i] += h * g;
          }
        },
        [&](int64_t, auto w) { sums.end_block(w); });
    join(sums);
    A k[kLanes], mean_dy[kLanes], mean_h[kLanes], ddy_z[kLanes], ddshift[kLanes], x_dy[kLanes], x_h[kLanes],
        x_z[kLanes];
    double grad_scale[kLanes];
    for (int64_t i = 0; i < number; ++i) {
      double own[5];
      for (int s = 0; s < 5; ++s) own[s] = sums.total[s][i];
      const StyleEpilogueBackwardBackward c(of_channel(p.scale, i, 1), rstd[i], of_channel(p.ddscale, i, 0), own,
                                            p.pixels);
      k[i] = A(c.k), mean_dy[i] = A(c.mean_dy), mean_h[i] = A(c.mean_h), ddy_z[i] = A(c.ddy_z);
      ddshift[i] = of_channel(p.ddshift, i, 0), x_dy[i] = A(c.x_dy), x_h[i] = A(c.x_h), x_z[i] = A(c.x_z);
      grad_scale[i] = c.grad_scale;
    }
    spread({k, mean_dy, mean_h, ddy_z, ddshift, x_dy, x_h, x_z});
    write(p.dscale, grad_scale);
    T* __restrict ddy = static_cast<T*>(p.out[0]);
    T* __restrict dx = static_cast<T*>(p.out[1]);
    Sums<2, A> totals;
    for_rows(
        [&](int64_t from, const A* row, auto w, int64_t) {
          const A one = row[0];
#pragma omp simd
          for (int64_t i = 0; i < w; ++i) {
            const A u = preactivation(x[from + i], noise_at(row, one, i), i), z = normalised(u, i), s = slope(u);
            const A h = load(ddx[from + i]) * s - mean_h[i], g = load(dy[from + i]) - mean_dy[i];
            store(ddy[from + i], k[i] * h + ddy_z[i] * z + ddshift[i]);
            const A d = s * (x_dy[i] * g + x_h[i] * h + x_z[i] * z);
            store(dx[from + i], d);
            totals.block[0][i] += d;
            totals.block[1][i] += d * noise_at(row, one, i);
          }
        },
        [&](int64_t, auto w) { totals.end_block(w); });
    write_totals(totals);
  }

  void write_totals(Sums<2, A>& totals) const {
    join(totals);
    write(p.total, totals.total[0]);
    write(p.noise_total, totals.total[1]);
  }
};

template <typename T, bool planes>
void run(const StyleEpilogueParams& p, int order, int64_t begin, int64_t end) {
  for (int64_t unit = begin; unit < end; ++unit) {
    Unit<T, planes> one(p, unit);
    if (order == 0) one.forward();
    if (order == 1) one.backward();
    if (order == 2) one.backward_backward();
  }
}

template <typename T>
void run(const StyleEpilogueParams& p, int order, int64_t begin, int64_t end) {
  (p.channels_last ? run<T, false> : run<T, true>)(p, order, begin, end);
}

}  // namespace

void style_epilogue(const StyleEpilogueParams& p, int order, int64_t begin, int64_t end) {
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
