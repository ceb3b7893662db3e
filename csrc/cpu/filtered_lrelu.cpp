// filtered_lrelu, plane after plane. The rows of the middle are made one by one and only as many are kept as fd has
// rows of taps, so the upsampled image never leaves the cache. A kept row is split into `down` parts, every down-th
// element side by side, so that every sum runs over consecutive elements.
#include "filtered_lrelu.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "../math/upfirdn2d.h"
#include "vector.h"

namespace gankern::cpu::GANKERN_SIMD {

namespace {

// A sum of weighted lines.
template <typename A>
struct Terms {
  int count = 0;
  const A* from[kMaxFusedTaps * kMaxFusedTaps];
  A weight[kMaxFusedTaps * kMaxFusedTaps];

  void add(const A* line, A w) { from[count] = line, weight[count++] = w; }

  // Whole vectors: up to one vector behind the end is read and written.
  void sum(A* to, int64_t n) const {
    constexpr int64_t size = Vec<A>::size;
    for (int64_t i = 0; i < n;) {
      const int64_t rest = n - i;
      if (rest > 5 * size) {
        i = block<6>(to, i);
      } else if (rest > 2 * size) {
        i = block<3>(to, i);
      } else {
        i = block<1>(to, i);
      }
    }
  }

 private:
  template <int vectors>
  int64_t block(A* to, int64_t i) const {
    using V = Vec<A>;
    V s[vectors];
    for (int j = 0; j < vectors; ++j) s[j] = V::fill(0);
    for (int k = 0; k < count; ++k) {
      const V w = V::fill(weight[k]);
      const A* at = from[k] + i;
#pragma GCC unroll 6
      for (int j = 0; j < vectors; ++j) s[j] = s[j].plus(w, V::load(at + j * V::size));
    }
#pragma GCC unroll 6
    for (int j = 0; j < vectors; ++j) s[j].store(to + i + j * V::size);
    return i + vectors * V::size;
  }
};

// The taps as correlation; of a separable filter `column` and row 0.
template <typename A>
struct Taps {
  bool separable;
  int x, y;
  A row[kMaxFusedTaps][kMaxFusedTaps], column[kMaxFusedTaps];

  Taps(const FusedFilter& f, bool flip) : separable(f.separable), x(f.taps_x), y(f.taps_y) {
    const auto tap = [&](int k, int taps) { return flip ? k : taps - 1 - k; };
    for (int i = 0; i < (separable ? 1 : y); ++i) {
      for (int k = 0; k < x; ++k) row[i][k] = A(f.f[(separable ? 0 : tap(i, y) * x) + tap(k, x)]);
    }
    for (int i = 0; i < y; ++i) column[i] = separable ? A(f.f[tap(i, y)]) : A(1);
  }
};

template <typename T>
class Worker {
  using A = arithmetic_t<T>;
  static constexpr int64_t kSlack = 5 * Vec<A>::size;  // whole vectors are read and written

  const FilteredLreluParams& p;
  const Taps<A> fu, fd;
  const int64_t rows, columns;  // of the middle, padding included, as far as anybody needs them
  const int64_t part;           // elements of a part of a kept row
  const int64_t first, last;    // columns of the middle that are not padding
  Phase phase[kMaxFusedScale];
  int64_t place[kMaxFusedTaps];  // of the elements that a row of fd's taps meets, in the parts
  int64_t low = 0, high = 0;     // the samples that the columns meet
  std::vector<A> samples, phases, middle, kept, line, result;
  Terms<A> terms;

 public:
  explicit Worker(const FilteredLreluParams& params)
      : p(params),
        fu(p.fu, p.flip),
        fd(p.fd, p.flip),
        rows(extent(p.out_h, fd.y, p.mid_h + p.dy)),
        columns(extent(p.out_w, fd.x, p.mid_w + p.dx)),
        part((columns + p.down - 1) / p.down + Vec<A>::size),
        first(std::max<int64_t>(0, p.dx)),
        last(std::clamp<int64_t>(p.dx + p.mid_w, first, std::max(first, columns))) {
    const int64_t groups = (columns + p.up - 1) / p.up;
    for (int r = 0; r < p.up; ++r) {
      phase[r] = phase_of(r, p.up, 1, p.ux + p.dx);
      low = r == 0 ? phase[r].sample : std::min(low, phase[r].sample);
      high = std::max(high, phase[r].sample + fu.x / p.up + 1 + groups);
    }
    high = std::max(high, low + 1);
    for (int k = 0; k < fd.x; ++k) place[k] = k % p.down * part + k / p.down;
    samples.resize((fu.separable ? 1 : fu.y) * sample_pitch());
    phases.resize(p.up * phase_pitch());
    middle.resize(columns + p.up + kSlack);
    kept.resize(fd.y * p.down * part + kSlack);
    line.resize(p.down * part + kSlack);
    result.resize(p.out_w + kSlack);
  }

  void run(int64_t plane) {
    T* y = static_cast<T*>(p.y) + plane * p.out_h * p.out_w;
    int64_t done = 0;
    double total = 0;
    for (int64_t v = 0; v < rows; ++v) {
      make_row(plane, v);
      if (v + 1 < fd.y || (v + 1 - fd.y) % p.down != 0 || done == p.out_h) continue;
      filter_down(v + 1 - fd.y);
      T* __restrict to = y + done++ * p.out_w;
      const A* __restrict from = result.data();
#pragma omp simd
      for (int64_t i = 0; i < p.out_w; ++i) store(to[i], from[i]);
      if (p.sums != nullptr) total += sum_of(from);
    }
    if (p.sums != nullptr) p.sums[plane] = total;
  }

 private:
  A sum_of(const A* __restrict from) const {
    A total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < p.out_w; ++i) total += from[i];
    return total;
  }

  // What the result needs, and where signs are written all of the middle.
  int64_t extent(int64_t out, int taps, int64_t middle_size) const {
    const int64_t needed = (out - 1) * p.down + taps;
    return p.signs != nullptr && !p.reads_signs ? std::max(needed, middle_size) : needed;
  }

  int64_t sample_pitch() const { return high - low + kSlack; }
  int64_t phase_pitch() const { return (columns + p.up - 1) / p.up + kSlack; }
  A* kept_row(int64_t v) { return kept.data() + v % fd.y * p.down * part; }

  // Row v of the padded middle, into its place among the kept rows.
  void make_row(int64_t plane, int64_t v) {
    A* to = p.down == 1 ? kept_row(v) : middle.data();
    const int64_t row = v - p.dy;
    if (row < 0 || row >= p.mid_h) {
      std::fill_n(kept_row(v), p.down * part, A(0));
      return;
    }
    filter_up(plane, phase_of(v, p.up, 1, p.uy + p.dy), to);
    uint8_t* signs = p.signs == nullptr ? nullptr : p.signs + (plane * p.mid_h + row) * p.mid_w - p.dx;
    if (p.reads_signs) {
      multiply(to, signs);
    } else if (signs != nullptr) {
      activate<true>(to, signs);
    } else {
      activate<false>(to, signs);
    }
    if (p.down > 1) split(kept_row(v));
  }

  void filter_up(int64_t plane, Phase vertical, A* to) {
    const T* x = static_cast<const T*>(p.x) + plane * p.in_h * p.in_w;
    const A b = p.b == nullptr ? A(0) : static_cast<const A*>(p.b)[plane % p.channels];
    const int64_t begin = std::max<int64_t>(0, low), end = std::min(p.in_w, high);
    int met[kMaxFusedTaps], count = 0;  // the taps whose row is inside the image
    const T* rows_met[kMaxFusedTaps];
    int64_t row = vertical.sample;
    for (int k = vertical.first; k < fu.y; k += p.up, ++row) {
      if (row >= 0 && row < p.in_h) rows_met[count] = x + row * p.in_w, met[count++] = k;
    }
    if (fu.separable) {
      A weights[kMaxFusedTaps];
      for (int i = 0; i < count; ++i) weights[i] = fu.column[met[i]];
      read(rows_met, weights, count, b, begin, end, samples.data() - low);
    } else {
      const A one = 1;
      for (int i = 0; i < count; ++i) {
        read(&rows_met[i], &one, 1, b, begin, end, samples.data() + i * sample_pitch() - low);
      }
    }
    const int64_t n = (columns + p.up - 1) / p.up;
    for (int r = 0; r < p.up; ++r) {
      terms.count = 0;
      for (int i = 0; i < (fu.separable ? 1 : count); ++i) {
        const A* from = samples.data() + i * sample_pitch() - low + phase[r].sample;
        const A* taps = fu.row[fu.separable ? 0 : met[i]];
        for (int k = phase[r].first; k < fu.x; k += p.up) terms.add(from++, taps[k]);
      }
      terms.sum(p.up == 1 ? to : phases.data() + r * phase_pitch(), n);
    }
    if (p.up > 1) interleave(to, n);
  }

  // to[i] = sum of weight * (row[i] + b) for i in [begin, end).
  static void read(const T* const* from, const A* weight, int count, A b, int64_t begin, int64_t end, A* to) {
    using V = Vec<A>;
    A constant = 0;
    for (int k = 0; k < count; ++k) constant += weight[k] * b;
    const auto block = [&]<int vectors>(int64_t i) {
      V s[vectors];
      for (int j = 0; j < vectors; ++j) s[j] = V::fill(constant);
      for (int k = 0; k < count; ++k) {
        const V w = V::fill(weight[k]);
        for (int j = 0; j < vectors; ++j) s[j] = s[j].plus(w, V::load(from[k] + i + j * V::size));
      }
      for (int j = 0; j < vectors; ++j) s[j].store(to + i + j * V::size);
    };
    int64_t i = begin;
    for (; i + 4 * V::size <= end; i += 4 * V::size) block.template operator()<4>(i);
    for (; i + V::size <= end; i += V::size) block.template operator()<1>(i);
    if (i < end && end - begin >= V::size) {
      block.template operator()<1>(end - V::size);  // some elements a second time
      return;
    }
    for (; i < end; ++i) {
      to[i] = constant;
      for (int k = 0; k < count; ++k) to[i] += weight[k] * load(from[k][i]);
    }
  }

  void interleave(A* __restrict to, int64_t n) const {
    const int64_t pitch = phase_pitch();
    const A* __restrict from = phases.data();
    if (p.up == 2) {
#pragma omp simd
      for (int64_t m = 0; m < n; ++m) to[2 * m] = from[m], to[2 * m + 1] = from[pitch + m];
    } else if (p.up == 4) {
#pragma omp simd
      for (int64_t m = 0; m < n; ++m) {
        to[4 * m] = from[m], to[4 * m + 1] = from[pitch + m];
        to[4 * m + 2] = from[2 * pitch + m], to[4 * m + 3] = from[3 * pitch + m];
      }
    } else {
      for (int r = 0; r < p.up; ++r) {
        for (int64_t m = 0; m < n; ++m) to[p.up * m + r] = from[r * pitch + m];
      }
    }
  }

  template <bool writes>
  void activate(A* __restrict to, uint8_t* __restrict signs) const {
    const A gain = A(p.gain), slope = A(p.slope);
    const A limit = p.clamp < 0 ? std::numeric_limits<A>::infinity() : A(p.clamp);
    const bool limited = p.clamp >= 0;
    std::fill(to, to + first, A(0)), std::fill(to + last, to + columns, A(0));
#pragma omp simd
    for (int64_t i = first; i < last; ++i) {
      const A u = to[i] * gain;
      const A v = u > 0 ? u : u * slope;
      const A size = v < 0 ? -v : v;
      const A bounded = v > limit ? limit : v < -limit ? -limit : v;
      to[i] = bounded;
      if constexpr (writes) {
        const uint8_t sign = u > 0 ? uint8_t(positive) : uint8_t(negative);
        signs[i] = limited & !(size < limit) ? uint8_t(clamped) : sign;
      }
    }
  }

  void multiply(A* __restrict to, const uint8_t* __restrict signs) const {
    const A above = A(p.gain), below = A(p.gain * p.slope);
    std::fill(to, to + first, A(0)), std::fill(to + last, to + columns, A(0));
#pragma omp simd
    for (int64_t i = first; i < last; ++i) {
      to[i] *= signs[i] == positive ? above : signs[i] == negative ? below : A(0);
    }
  }

  void split(A* __restrict to) const {
    const A* __restrict from = middle.data();
    const int64_t n = (columns + p.down - 1) / p.down;
    if (p.down == 2) {
#pragma omp simd
      for (int64_t k = 0; k < n; ++k) to[k] = from[2 * k], to[part + k] = from[2 * k + 1];
    } else if (p.down == 4) {
#pragma omp simd
      for (int64_t k = 0; k < n; ++k) {
        to[k] = from[4 * k], to[part + k] = from[4 * k + 1];
        to[2 * part + k] = from[4 * k + 2], to[3 * part + k] = from[4 * k + 3];
      }
    } else {
      for (int q = 0; q < p.down; ++q) {
        for (int64_t k = 0; k < n; ++k) to[q * part + k] = from[p.down * k + q];
      }
    }
  }

  // A row of the result from the kept rows v, v + 1, ...
  void filter_down(int64_t v) {
    const int64_t pitch = p.down * part;
    int64_t slot = v % fd.y;
    terms.count = 0;
    for (int i = 0; i < fd.y; ++i, slot = slot + 1 == fd.y ? 0 : slot + 1) {
      const A* row = kept.data() + slot * pitch;
      if (fd.separable) {
        terms.add(row, fd.column[i]);
      } else {
        for (int k = 0; k < fd.x; ++k) terms.add(row + place[k], fd.row[i][k]);
      }
    }
    if (fd.separable) {
      terms.sum(line.data(), pitch);
      terms.count = 0;
      for (int k = 0; k < fd.x; ++k) terms.add(line.data() + place[k], fd.row[0][k]);
    }
    terms.sum(result.data(), p.out_w);
  }
};

template <typename T>
void run(const FilteredLreluParams& p, int64_t begin, int64_t end) {
  Worker<T> worker(p);
  for (int64_t plane = begin; plane < end; ++plane) worker.run(plane);
}

}  // namespace

void filtered_lrelu(const FilteredLreluParams& p, int64_t begin, int64_t end) {
  switch (p.dtype) {
    case DType::f64:
      return run<double>(p, begin, end);
    case DType::f32:
      return run<float>(p, begin, end);
    case DType::bf16:
      return run<bfloat16>(p, begin, end);
    case DType::f16:
      return run<float16>(p, begin, end);
  }
}

}  // namespace gankern::cpu::GANKERN_SIMD
