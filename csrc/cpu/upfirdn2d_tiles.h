// upfirdn2d for any filter and any factors: a vertical pass over input rows into a buffer that stays in the first-level
// cache, then a horizontal pass over the buffer. A pixel is a group of `g` consecutive elements: one for NCHW, C for
// channels_last, so both layouts are one program. Every inner loop is `weighted_sum` over consecutive elements.
#pragma once

#include <cstdlib>

#include "separated.h"
#include "vector.h"

namespace gankern::cpu::GANKERN_SIMD {

constexpr int64_t kTile = 4096;  // elements of a tile's buffer: 16 KiB of float

int64_t min(int64_t a, int64_t b) {
  return a < b ? a : b;
}
int64_t max(int64_t a, int64_t b) {
  return a > b ? a : b;
}

int gcd(int a, int b) {
  return b == 0 ? a : gcd(b, a % b);
}

// to[i] = sum_m weight[m] * from[m][i] (+ add[i]), with the number of terms known to the compiler. Nothing outside
// [0, n) is touched: the last vector is a partial one.
template <int terms, bool accumulate, typename D, typename S, typename A>
void weighted_sum_of(D* to, const S* const* from, const A* weight, int64_t n, const A* add) {
  using V = Vec<A>;
  const S* source[terms];
  V w[terms];
  for (int m = 0; m < terms; ++m) source[m] = from[m], w[m] = V::fill(weight[m]);
  int64_t i = 0;
  for (; i + V::size <= n; i += V::size) {
    V s = accumulate ? V::load(add + i) : V::fill(0);
#pragma GCC unroll 4
    for (int m = 0; m < terms; ++m) s = s.plus(w[m], V::load(source[m] + i));
    s.store(to + i);
  }
  if (i == n) return;
  V s = accumulate ? V::load(add + i, 0, n - i) : V::fill(0);
#pragma GCC unroll 4
  for (int m = 0; m < terms; ++m) s = s.plus(w[m], V::load(source[m] + i, 0, n - i));
  s.store(to + i, 0, n - i);
}

// The same for any number of terms, four at a time; the sums in between stay in `scratch`, which may be `to`.
template <typename D, typename S, typename A>
void weighted_sum(D* to, const S* const* from, const A* weight, int terms, int64_t n, bool accumulate, A* scratch) {
  if (terms == 0 && !accumulate) memset(static_cast<void*>(to), 0, n * sizeof(D));
  for (; terms > 4; from += 4, weight += 4, terms -= 4, accumulate = true) {
    if (accumulate) {
      weighted_sum_of<4, true>(scratch, from, weight, n, scratch);
    } else {
      weighted_sum_of<4, false>(scratch, from, weight, n, scratch);
    }
  }
  switch (terms + (accumulate ? 4 : 0)) {
    case 1:
      return weighted_sum_of<1, false>(to, from, weight, n, scratch);
    case 2:
      return weighted_sum_of<2, false>(to, from, weight, n, scratch);
    case 3:
      return weighted_sum_of<3, false>(to, from, weight, n, scratch);
    case 4:
      if (accumulate) return;  // nothing left to add
      return weighted_sum_of<4, false>(to, from, weight, n, scratch);
    case 5:
      return weighted_sum_of<1, true>(to, from, weight, n, scratch);
    case 6:
      return weighted_sum_of<2, true>(to, from, weight, n, scratch);
    case 7:
      return weighted_sum_of<3, true>(to, from, weight, n, scratch);
    case 8:
      return weighted_sum_of<4, true>(to, from, weight, n, scratch);
  }
}

// The rows of the input that make one row of the result.
struct RowPlan {
  int64_t sample;  // first input row
  int first;       // its tap; the next row's is up_y further
  int terms;
};

// Polyphase along x. With u = up / gcd and d = down / gcd, output column r + u m reads input pixels
// sample[r] + j + d m with taps first[r] + j up: consecutive in m, if every d-th pixel is stored side by side.
struct ColumnPlan {
  int u, d, up;
  int64_t sample[kMaxScale];
  int first[kMaxScale], terms[kMaxScale];
  int64_t reach = 0;  // pixels that u columns need beyond the d they advance

  explicit ColumnPlan(const UpFirDn2dParams& p) : up(p.up_x) {
    const int q = gcd(p.up_x, p.down_x);
    u = p.up_x / q, d = p.down_x / q;
    for (int r = 0; r < u; ++r) {
      const Phase phase = phase_of(r, p.up_x, p.down_x, p.pad_x);
      sample[r] = phase.sample, first[r] = phase.first;
      terms[r] = phase.first < p.taps_x ? (p.taps_x - phase.first + up - 1) / up : 0;
      reach = max(reach, sample[r] - sample[0] + terms[r] - d);
    }
  }
};

template <typename T>
class Tiles {
  using A = arithmetic_t<T>;

  const UpFirDn2dParams& p;
  const Separated<A>& filter;
  const ColumnPlan columns;
  const int64_t g, images_per_batch, out_row;
  const bool wide;                    // channels alone fill vectors, and one product makes the result
  bool splits;                        // every d-th pixel of a row is stored side by side, in d parts
  bool direct;                        // the horizontal pass writes the result, without a buffer of its own
  int64_t m_all, m_block, blocks;     // columns / u: all, of a tile; tiles beside each other
  int64_t pixels, row_block, stride;  // of a tile: input pixels, rows; elements of a row of one part
  RowPlan* plan;
  A *line, *part[kMaxScale], *result[kMaxScale];
  A* memory;

 public:
  Tiles(const UpFirDn2dParams& params, const Separated<A>& separated)
      : p(params),
        filter(separated),
        columns(params),
        g(p.channels_last ? p.c : 1),
        images_per_batch(p.channels_last ? 1 : p.c),
        out_row(p.out_w * g),
        wide(g >= Vec<A>::size && separated.count == 1) {
    splits = columns.d > 1 && !wide;
    m_all = (p.out_w + columns.u - 1) / columns.u;
    m_block = max(1, min(m_all, (kTile / g - columns.reach) / columns.d));
    blocks = (m_all + m_block - 1) / m_block;
    pixels = columns.d * m_block + max(0, columns.reach);
    stride = splits ? (pixels + columns.d - 1) / columns.d * g : pixels * g;
    row_block = blocks > 1 ? 1 : max(1, min(p.out_h * p.n * images_per_batch, kTile / (stride * columns.d)));
    direct = wide || (filter.count == 1 && columns.u == 1 && m_block * g >= 4 * Vec<A>::size);
    allocate();
    for (int64_t y = 0; y < p.out_h; ++y) plan[y] = plan_row(y);
  }

  ~Tiles() { std::free(memory), std::free(plan); }
  Tiles(const Tiles&) = delete;

  void run(int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row += row_block) {
      const int64_t rows = min(row_block, end - row);
      for (int64_t m = 0; m < m_all; m += m_block) tile(row, rows, m, min(m_block, m_all - m));
    }
  }

 private:
  void allocate() {
    const int64_t slack = max(0, columns.reach + columns.d) * g + 64;
    const int64_t length = (max(row_block, columns.d) * stride + slack + 15) / 16 * 16;
    memory = static_cast<A*>(std::aligned_alloc(64, (1 + columns.d + columns.u) * length * sizeof(A)));
    plan = static_cast<RowPlan*>(std::malloc(p.out_h * sizeof(RowPlan)));
    memset(static_cast<void*>(memory), 0, (1 + columns.d + columns.u) * length * sizeof(A));
    line = memory;
    for (int e = 0; e < columns.d; ++e) part[e] = memory + (1 + e) * length;
    for (int r = 0; r < columns.u; ++r) result[r] = memory + (1 + columns.d + r) * length;
  }

  RowPlan plan_row(int64_t y) const {
    const Phase phase = phase_of(y, p.up_y, p.down_y, p.pad_y);
    const int64_t skipped = max(0, -phase.sample);
    const int64_t first = phase.first + skipped * p.up_y;
    const int64_t sample = phase.sample + skipped;
    const int64_t by_taps = first < p.taps_y ? (p.taps_y - first + p.up_y - 1) / p.up_y : 0;
    return {sample, int(first), int(max(0, min(by_taps, p.in_h - sample)))};
  }

  // Calls body(image, y, i) for the rows row + i of the result: row y of the result of the image at `image`.
  template <typename Body>
  void for_rows(int64_t row, int64_t rows, const Body& body) const {
    int64_t index = row / p.out_h, y = row % p.out_h;
    const T* image = image_at(index);
    for (int64_t i = 0; i < rows; ++i) {
      body(image, y, i);
      if (++y == p.out_h) y = 0, image = image_at(++index);
    }
  }

  const T* image_at(int64_t index) const {
    return static_cast<const T*>(p.x) + index / images_per_batch * p.stride_n + index % images_per_batch * p.stride_c;
  }

  void tile(int64_t row, int64_t rows, int64_t m, int64_t m_count) {
    const int64_t base = columns.sample[0] + columns.d * m;
    if (filter.count == 1) {
      for_rows(row, rows, [&](const T* image, int64_t y, int64_t i) { vertical(image, plan[y], base, i); });
      if (direct) return horizontal_into_result(row, rows, m, m_count, filter.row[0]);
      horizontal(rows, m_count, filter.row[0], false);
      return write(row, rows, m, m_count);
    }
    for (int product = 0; product < filter.count; ++product) {
      for_rows(row, rows, [&](const T* image, int64_t y, int64_t i) { pick_row(image, plan[y], base, i, product); });
      horizontal(rows, m_count, filter.row[product], product > 0);
    }
    write(row, rows, m, m_count);
  }

  // Row i of the tile's buffer: the weighted sum of the input rows that make one row of the result.
  void vertical(const T* image, const RowPlan& rows, int64_t base, int64_t i) {
    const T* from[kMaxTaps];
    A weight[kMaxTaps];
    for (int j = 0; j < rows.terms; ++j) {
      from[j] = image + (rows.sample + j) * p.stride_h;
      weight[j] = filter.column[rows.first + j * p.up_y];
    }
    fill(from, weight, rows.terms, base, i);
  }

  // The same for a filter of higher rank, one row of its taps at a time: the input row under that row of taps.
  void pick_row(const T* image, const RowPlan& rows, int64_t base, int64_t i, int product) {
    const int j = (product - rows.first) / p.up_y;
    const bool meets = product >= rows.first && (product - rows.first) % p.up_y == 0 && j < rows.terms;
    const T* from = meets ? image + (rows.sample + j) * p.stride_h : nullptr;
    const A one = 1;
    fill(&from, &one, meets ? 1 : 0, base, i);
  }

  void fill(const T** from, const A* weight, int terms, int64_t base, int64_t i) {
    const int64_t low = max(0, -base), high = min(pixels, p.in_w - base);
    A* to = splits ? line : part[0] + i * stride;
    if (low >= high) {
      memset(static_cast<void*>(to), 0, pixels * g * sizeof(A));
    } else {
      if (blocks > 1) {  // with one block the margins are zero from the start
        memset(static_cast<void*>(to), 0, low * g * sizeof(A));
        memset(static_cast<void*>(to + high * g), 0, (pixels - high) * g * sizeof(A));
      }
      for (int j = 0; j < terms; ++j) from[j] += (base + low) * g;
      weighted_sum(to + low * g, from, weight, terms, (high - low) * g, false, to + low * g);
    }
    if (splits) split(i);
  }

  // Every d-th pixel of the line side by side.
  void split(int64_t i) {
    const int64_t d = columns.d, count = stride / g;
    if (g == 1 && d == 2) {
      A* __restrict even = part[0] + i * stride, * __restrict odd = part[1] + i * stride;
#pragma omp simd
      for (int64_t k = 0; k < count; ++k) even[k] = line[2 * k], odd[k] = line[2 * k + 1];
      return;
    }
    for (int64_t e = 0; e < d; ++e) {
      A* to = part[e] + i * stride;
      for (int64_t k = 0; k < count; ++k) {
        for (int64_t c = 0; c < g; ++c) to[k * g + c] = line[(k * d + e) * g + c];
      }
    }
  }

  // Pixels with many channels, or rows without phases to interleave: straight into the result.
  void horizontal_into_result(int64_t row, int64_t rows, int64_t m, int64_t m_count, const A* taps) {
    const int64_t count = min(m_count * columns.u, p.out_w - m * columns.u);  // pixels
    const int64_t run = columns.u == 1 && (splits || columns.d == 1) ? count : 1;
    const A* from[kMaxTaps];
    A weight[kMaxTaps];
    for (int64_t k = 0; k < count; k += run) {
      const int r = int(k % columns.u);
      const int terms = columns.terms[r];
      gather(r, k / columns.u, taps, from, weight);
      for (int64_t i = 0; i < rows; ++i) {
        T* to = static_cast<T*>(p.y) + (row + i) * out_row + (m * columns.u + k) * g;
        weighted_sum(to, from, weight, terms, run * g, false, result[0]);
        for (int j = 0; j < terms; ++j) from[j] += stride;
      }
    }
  }

  // The buffered pixels and taps that make column r + u m of the tile's first row.
  void gather(int r, int64_t m, const A* taps, const A** from, A* weight) const {
    for (int j = 0; j < columns.terms[r]; ++j) {
      const int64_t pixel = columns.sample[r] - columns.sample[0] + j;
      from[j] = splits ? part[pixel % columns.d] + (pixel / columns.d + m) * g : part[0] + (pixel + columns.d * m) * g;
      weight[j] = taps[columns.first[r] + j * columns.up];
    }
  }

  // Few channels: all rows of the tile as one run, phase by phase.
  void horizontal(int64_t rows, int64_t m_count, const A* taps, bool accumulate) {
    const int64_t n = (rows - 1) * stride + m_count * g;
    for (int r = 0; r < columns.u; ++r) {
      const A* from[kMaxTaps];
      A weight[kMaxTaps];
      gather(r, 0, taps, from, weight);
      weighted_sum(result[r], from, weight, columns.terms[r], n, accumulate, result[r]);
    }
  }

  // The u phases of the tile, interleaved, into the result.
  void write(int64_t row, int64_t rows, int64_t m, int64_t m_count) {
    for (int64_t i = 0; i < rows; ++i) {
      T* __restrict to = static_cast<T*>(p.y) + (row + i) * out_row + m * columns.u * g;
      const int64_t count = min(m_count * columns.u, p.out_w - m * columns.u);  // pixels
      if (columns.u == 1) {
        const A* __restrict from = result[0] + i * stride;
#pragma omp simd
        for (int64_t e = 0; e < count * g; ++e) store(to[e], from[e]);
      } else if (columns.u == 2 && g == 1) {
        const A* __restrict even = result[0] + i * stride, * __restrict odd = result[1] + i * stride;
#pragma omp simd
        for (int64_t k = 0; k < count / 2; ++k) store(to[2 * k], even[k]), store(to[2 * k + 1], odd[k]);
        if (count % 2 != 0) store(to[count - 1], even[count / 2]);
      } else {
        for (int r = 0; r < columns.u; ++r) {
          const A* from = result[r] + i * stride;
          for (int64_t k = r; k < count; k += columns.u, from += g) {
            for (int64_t c = 0; c < g; ++c) store(to[k * g + c], from[c]);
          }
        }
      }
    }
  }
};

}  // namespace gankern::cpu::GANKERN_SIMD
