// upfirdn2d on the CPU: a vertical pass over input rows into a buffer that stays in the first-level cache, then a
// horizontal pass over the buffer. A pixel is a group of `g` consecutive elements: one for NCHW, C for channels_last,
// so both layouts are one program. Every inner loop is `weighted_sum` over consecutive elements.
#include "upfirdn2d.h"

#include <cstdlib>

namespace gankern::cpu::GANKERN_SIMD {

namespace {

constexpr int64_t kTile = 4096;     // elements of a tile's buffer: 16 KiB of float

int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }

int gcd(int a, int b) { return b == 0 ? a : gcd(b, a % b); }

// A filter as a sum of products column x row, as correlation: one product if f has rank 1, else one per row of f.
template <typename A>
struct Separated {
  int count = 0;
  int taps_x, taps_y;
  A row[kMaxTaps][kMaxTaps];  // row[i]: along x
  A column[kMaxTaps];         // of product 0 where count == 1; product i > 1 picks row i alone

  explicit Separated(const UpFirDn2dParams& p) : taps_x(p.taps_x), taps_y(p.taps_y) {
    const auto tap = [&](int k, int taps) { return p.flip ? k : taps - 1 - k; };
    if (p.separable) {
      count = 1;
      for (int k = 0; k < taps_x; ++k) row[0][k] = A(p.f[tap(k, taps_x)]);
      for (int k = 0; k < taps_y; ++k) column[k] = A(p.f[tap(k, taps_y)] * p.gain);
      return;
    }
    count = taps_y;
    for (int i = 0; i < taps_y; ++i) {
      for (int k = 0; k < taps_x; ++k) row[i][k] = A(p.f[tap(i, taps_y) * taps_x + tap(k, taps_x)] * p.gain);
    }
    factor();
  }

 private:
  // Divides by the largest tap's row; keeps the product if it gives every tap back to rounding.
  void factor() {
    int best_i = 0, best_k = 0;
    A largest = 0;
    for (int i = 0; i < taps_y; ++i) {
      for (int k = 0; k < taps_x; ++k) {
        const A size = row[i][k] < 0 ? -row[i][k] : row[i][k];
        if (size > largest) largest = size, best_i = i, best_k = k;
      }
    }
    if (!(largest > 0) || largest * 0 != 0) return;  // zeros, inf or NaN: as it is
    const A pivot = row[best_i][best_k];
    for (int i = 0; i < taps_y; ++i) column[i] = row[i][best_k] / pivot;
    for (int i = 0; i < taps_y; ++i) {
      for (int k = 0; k < taps_x; ++k) {
        const A error = column[i] * row[best_i][k] - row[i][k];
        if ((error < 0 ? -error : error) > largest * A(sizeof(A) == 8 ? 1e-15 : 2.4e-7)) return;
      }
    }
    if (best_i != 0) memcpy(row[0], row[best_i], sizeof row[0]);
    count = 1;
  }
};

// to[i] = sum_m weight[m] * from[m][i], with the number of terms known to the compiler.
template <int terms, typename D, typename S, typename A>
void weighted_sum_of(D* __restrict to, const S* const* from, const A* weight, int64_t n, const A* add) {
  const S* source[terms];
  A w[terms];
  for (int m = 0; m < terms; ++m) source[m] = from[m], w[m] = weight[m];
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    A s = add != nullptr ? add[i] : A(0);
#pragma GCC unroll 8
    for (int m = 0; m < terms; ++m) s += w[m] * load(source[m][i]);
    store(to[i], s);
  }
}

template <typename S, typename A>
void weighted_sum(A* to, const S* const* from, const A* weight, int terms, int64_t n, bool accumulate) {
  if (terms == 0 && !accumulate) memset(to, 0, n * sizeof(A));
  while (terms > 0) {
    const A* add = accumulate ? to : nullptr;
    const int now = terms >= 4 ? 4 : terms;
    if (now == 4) weighted_sum_of<4>(to, from, weight, n, add);
    if (now == 3) weighted_sum_of<3>(to, from, weight, n, add);
    if (now == 2) weighted_sum_of<2>(to, from, weight, n, add);
    if (now == 1) weighted_sum_of<1>(to, from, weight, n, add);
    from += now, weight += now, terms -= now, accumulate = true;
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
class Worker {
  using A = arithmetic_t<T>;

  const UpFirDn2dParams& p;
  const Separated<A> filter;
  const ColumnPlan columns;
  const int64_t g, images_per_batch, in_row, out_row;
  int64_t m_block, pixels, row_block, stride;  // of a tile: columns / u, input pixels, rows; one row of one of d parts
  RowPlan* plan;
  A *line, *part[kMaxScale], *result[kMaxScale];
  A* memory;

 public:
  explicit Worker(const UpFirDn2dParams& params)
      : p(params),
        filter(params),
        columns(params),
        g(p.channels_last ? p.c : 1),
        images_per_batch(p.channels_last ? 1 : p.c),
        in_row(p.in_w * g),
        out_row(p.out_w * g) {
    const int64_t m_all = (p.out_w + columns.u - 1) / columns.u;
    m_block = max(1, min(m_all, (kTile / g - columns.reach) / columns.d));
    pixels = columns.d * m_block + max(0, columns.reach);
    stride = (pixels + columns.d - 1) / columns.d * g;
    row_block = m_block < m_all ? 1 : max(1, min(p.out_h * p.n * images_per_batch, kTile / (stride * columns.d)));
    allocate();
    for (int64_t y = 0; y < p.out_h; ++y) plan[y] = plan_row(y);
  }

  ~Worker() { std::free(memory), std::free(plan); }
  Worker(const Worker&) = delete;

  void run(int64_t begin, int64_t end) {
    const int64_t m_all = (p.out_w + columns.u - 1) / columns.u;
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

  const T* input_row(int64_t image, int64_t y) const {
    const int64_t n = image / images_per_batch, c = image % images_per_batch;
    return static_cast<const T*>(p.x) + n * p.stride_n + c * p.stride_c + y * p.stride_h;
  }

  void tile(int64_t row, int64_t rows, int64_t m, int64_t m_count) {
    const int64_t base = columns.sample[0] + columns.d * m;
    if (filter.count == 1) {
      for (int64_t i = 0; i < rows; ++i) vertical(row + i, base, i);
      horizontal(rows, m_count, filter.row[0], false);
      return write(row, rows, m, m_count);
    }
    for (int product = 0; product < filter.count; ++product) {
      for (int64_t i = 0; i < rows; ++i) pick_row(row + i, base, i, product);
      horizontal(rows, m_count, filter.row[product], product > 0);
    }
    write(row, rows, m, m_count);
  }

  // Row i of the tile's buffer: the weighted sum of the input rows that make row `row` of the result.
  void vertical(int64_t row, int64_t base, int64_t i) {
    const RowPlan& rows = plan[row % p.out_h];
    const T* from[kMaxTaps];
    A weight[kMaxTaps];
    for (int j = 0; j < rows.terms; ++j) {
      from[j] = input_row(row / p.out_h, rows.sample + j);
      weight[j] = filter.column[rows.first + j * p.up_y];
    }
    fill(from, weight, rows.terms, base, i);
  }

  // The same for a filter of higher rank, one row of its taps at a time: the input row under that row of taps.
  void pick_row(int64_t row, int64_t base, int64_t i, int product) {
    const RowPlan& rows = plan[row % p.out_h];
    const int j = (product - rows.first) / p.up_y;
    const bool meets = product >= rows.first && (product - rows.first) % p.up_y == 0 && j < rows.terms;
    const T* from = meets ? input_row(row / p.out_h, rows.sample + j) : nullptr;
    const A one = 1;
    fill(&from, &one, meets ? 1 : 0, base, i);
  }

  void fill(const T** from, const A* weight, int terms, int64_t base, int64_t i) {
    const int64_t low = max(0, -base), high = min(pixels, p.in_w - base);
    A* to = columns.d == 1 ? part[0] + i * stride : line;
    if (low >= high) {
      memset(static_cast<void*>(to), 0, pixels * g * sizeof(A));
    } else {
      for (int64_t e = 0; e < low * g; ++e) to[e] = 0;
      for (int64_t e = high * g; e < pixels * g; ++e) to[e] = 0;
      for (int j = 0; j < terms; ++j) from[j] += (base + low) * g;
      weighted_sum(to + low * g, from, weight, terms, (high - low) * g, false);
    }
    if (columns.d > 1) split(i);
  }

  // Every d-th pixel of the line side by side.
  void split(int64_t i) {
    const int64_t d = columns.d, count = stride / g;
    if (g == 1 && d == 2) {
      A *__restrict even = part[0] + i * stride, *__restrict odd = part[1] + i * stride;
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

  void horizontal(int64_t rows, int64_t m_count, const A* taps, bool accumulate) {
    const int64_t n = (rows - 1) * stride + m_count * g;
    for (int r = 0; r < columns.u; ++r) {
      const A* from[kMaxTaps];
      A weight[kMaxTaps];
      for (int j = 0; j < columns.terms[r]; ++j) {
        const int64_t pixel = columns.sample[r] - columns.sample[0] + j;
        from[j] = part[pixel % columns.d] + pixel / columns.d * g;
        weight[j] = taps[columns.first[r] + j * columns.up];
      }
      weighted_sum(result[r], from, weight, columns.terms[r], n, accumulate);
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
        const A *__restrict even = result[0] + i * stride, *__restrict odd = result[1] + i * stride;
#pragma omp simd
        for (int64_t k = 0; k < count / 2; ++k) store(to[2 * k], even[k]), store(to[2 * k + 1], odd[k]);
        if (count % 2 != 0) store(to[count - 1], even[count / 2]);
      } else {
        for (int64_t k = 0; k < count; ++k) {
          const A* from = result[k % columns.u] + i * stride + k / columns.u * g;
          for (int64_t c = 0; c < g; ++c) store(to[k * g + c], from[c]);
        }
      }
    }
  }
};

}  // namespace

void upfirdn2d(const UpFirDn2dParams& p, int64_t begin, int64_t end) {
  switch (p.dtype) {
    case DType::f64:
      return Worker<double>(p).run(begin, end);
    case DType::f32:
      return Worker<float>(p).run(begin, end);
    case DType::bf16:
      return Worker<bfloat16>(p).run(begin, end);
    case DType::f16:
      return Worker<float16>(p).run(begin, end);
  }
}

}  // namespace gankern::cpu::GANKERN_SIMD
