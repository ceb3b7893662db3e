// upfirdn2d for the field's short filters, of rank 1: blocks of rows walked by registers. Each input vector is loaded
// once a block, its vertical sums go straight into the horizontal ones, and nothing is stored but the result.
// PixelBlock: channels_last, a strip of channels walks along the pixels. PlaneBlock: NCHW, a vector of pixels.
#pragma once

#include "separated.h"
#include "vector.h"

namespace gankern::cpu::GANKERN_SIMD {

// `rows` output rows from y, of `taps` taps along both axes, up by `up` or down by `down`, and the input rows they
// need.
template <typename T, int up, int down, int taps, int rows>
struct RowBlock {
  using A = arithmetic_t<T>;
  using V = Vec<A>;

  static constexpr int kInputs = up == 2 ? rows / 2 + 2 : (rows - 1) * down + taps;

  const UpFirDn2dParams& p;
  V weight_x[taps], weight_y[taps];
  T zeros[V::size] = {};  // what lies above and below the image
  const T* from[kInputs];
  int64_t step[kInputs];  // elements to the next pixel: none among the zeros
  T* to[rows];            // null for a row that is not wanted

  RowBlock(const UpFirDn2dParams& params, const Separated<A>& filter) : p(params) {
    for (int k = 0; k < taps; ++k) {
      weight_x[k] = V::fill(filter.row[0][k]);
      weight_y[k] = V::fill(filter.column[k]);
    }
  }

  // The first row of the block with output row `first`: where up == 2, a block starts at an even y - pad.
  int64_t start(int64_t first) const { return up == 2 ? first - ((first - p.pad_y) & 1) : first; }

  // Rows y to y + rows of a result of rows [first, last), `pixel` elements apart in x and `pitch` rows apart.
  void place(int64_t y, int64_t first, int64_t last, const T* image, int64_t pixel, T* result, int64_t pitch) {
    const int64_t top = up == 2 ? (y - p.pad_y) / 2 : y * down - p.pad_y;
    for (int i = 0; i < kInputs; ++i) {
      const bool inside = top + i >= 0 && top + i < p.in_h;
      from[i] = inside ? image + (top + i) * p.stride_h : zeros;
      step[i] = inside ? pixel : 0;
    }
    for (int r = 0; r < rows; ++r) to[r] = y + r >= first && y + r < last ? result + (y + r) * pitch : nullptr;
  }

  // column[r]: the vertical sum for row r of the inputs `load(i)`.
  template <typename Load>
  GANKERN_HD void vertical(V* column, const Load& load) const {
    V input[kInputs];
    for (int i = 0; i < kInputs; ++i) input[i] = load(i);
    for (int r = 0; r < rows; ++r) {
      column[r] = V::fill(0);
      if constexpr (up == 2) {
        const int sample = (r + 1) / 2, tap = r % 2;
        column[r] = column[r].plus(weight_y[tap], input[sample]).plus(weight_y[tap + 2], input[sample + 1]);
      } else {
        for (int k = 0; k < taps; ++k) column[r] = column[r].plus(weight_y[k], input[r * down + k]);
      }
    }
  }
};

template <typename T, int up, int down, int taps, int rows>
class PixelBlock : RowBlock<T, up, down, taps, rows> {
  using Rows = RowBlock<T, up, down, taps, rows>;
  using A = typename Rows::A;
  using V = typename Rows::V;
  using Rows::p, Rows::from, Rows::step, Rows::to, Rows::weight_x, Rows::kInputs;

  static constexpr int kStrip = 256;  // channels side by side, so that memory is read and written in long runs
  static constexpr int kPast = up == 2 || down == 2 ? 1 : taps - 1;

  A past[kPast][rows][kStrip];  // vertical sums of earlier pixels, oldest first; of two of them, weighted, if down == 2
  T nothing[kStrip] = {};       // what is read outside the image
  T unwanted[kStrip];           // where results outside the result go

 public:
  using Rows::Rows;

  // Output rows [first, last) of image n.
  void run(int64_t n, int64_t first, int64_t last) {
    const T* image = static_cast<const T*>(p.x) + n * p.stride_n;
    T* result = static_cast<T*>(p.y) + n * p.out_h * p.out_w * p.c;
    for (int64_t y = this->start(first); y < last; y += rows) {
      this->place(y, first, last, image, p.c, result, p.out_w * p.c);
      for (int64_t c = 0; c < p.c; c += kStrip) walk(c, p.c - c < kStrip ? p.c - c : kStrip);
    }
  }

 private:
  struct Step {
    const T* in[down][kInputs];
    T* out[up][rows];
    A (*past[kPast])[kStrip];
  };

  // Channels [c, c + n) along the pixels: a step takes the next `down` of them and makes the next `up`.
  void walk(int64_t c, int64_t n) {
    Step at;
    for (int k = 0; k < kPast; ++k) {
      at.past[k] = past[k];
      for (int r = 0; r < rows; ++r) memset(static_cast<void*>(past[k][r]), 0, n * sizeof(A));
    }
    // With up == 2, sample s + 1 completes outputs t - pad with t = 2 s - 1 (odd taps) and t = 2 s (even taps).
    int64_t o = up == 2 ? -2 - (p.pad_x % 2 == 0) : down == 2 ? -1 : 1 - taps;
    int64_t x = up == 2 ? (o + 3 - p.pad_x) / 2 : o * down - p.pad_x + taps - down;
    for (; o < p.out_w; o += up, x += down) {
      for (int d = 0; d < down; ++d) {
        const bool inside = x + d >= 0 && x + d < p.in_w;
        for (int i = 0; i < kInputs; ++i) {
          at.in[d][i] = inside && step[i] != 0 ? from[i] + (x + d) * step[i] + c : nothing;
        }
      }
      for (int u = 0; u < up; ++u) {
        const bool inside = o + u >= 0 && o + u < p.out_w;
        for (int r = 0; r < rows; ++r) at.out[u][r] = inside && to[r] ? to[r] + (o + u) * p.c + c : unwanted;
      }
      int64_t k = 0;
      for (; k + V::size <= n; k += V::size) take<false>(at, k, 0);
      if (k < n) take<true>(at, k, n - k);
      for (int j = 0; j + 1 < kPast; ++j) std::swap(at.past[j], at.past[j + 1]);
    }
  }

  // The step for a vector of channels from k on, all of its lanes or the first `last`.
  template <bool tail>
  GANKERN_HD void take(const Step& at, int64_t k, int64_t last) const {
    const auto read = [&](const T* v)
                          __attribute__((always_inline)) { return tail ? V::load(v + k, 0, last) : V::load(v + k); };
    const auto write = [&](T* v, V sum)
                           __attribute__((always_inline)) { tail ? sum.store(v + k, 0, last) : sum.store(v + k); };
    V column[down][rows];
    for (int d = 0; d < down; ++d) {
      this->vertical(column[d], [&](int i) __attribute__((always_inline)) { return read(at.in[d][i]); });
    }
    for (int r = 0; r < rows; ++r) {
      const V now = column[0][r], before = V::load(at.past[0][r] + k);
      const V none = V::fill(0);
      if constexpr (up == 2) {
        write(at.out[0][r], none.plus(weight_x[1], before).plus(weight_x[3], now));
        write(at.out[1][r], none.plus(weight_x[0], before).plus(weight_x[2], now));
        now.store(at.past[0][r] + k);
      } else if constexpr (down == 2) {
        write(at.out[0][r], before.plus(weight_x[2], now).plus(weight_x[3], column[1][r]));
        none.plus(weight_x[0], now).plus(weight_x[1], column[1][r]).store(at.past[0][r] + k);
      } else {
        V sum = none.plus(weight_x[0], before);
        for (int j = 1; j < kPast; ++j) sum = sum.plus(weight_x[j], V::load(at.past[j][r] + k));
        write(at.out[0][r], sum.plus(weight_x[taps - 1], now));
        now.store(at.past[0][r] + k);
      }
    }
  }
};

template <typename V>
GANKERN_HD void clear(V* v, int n) {
  for (int i = 0; i < n; ++i) v[i] = V::fill(0);
}

template <typename T, int up, int down, int taps, int rows>
class PlaneBlock : RowBlock<T, up, down, taps, rows> {
  using Rows = RowBlock<T, up, down, taps, rows>;
  using V = typename Rows::V;
  using Rows::p, Rows::from, Rows::step, Rows::to, Rows::weight_x;

  static constexpr int kStride = down == 2 ? 2 * V::size : V::size;  // input pixels of a step

 public:
  using Rows::Rows;

  // Output rows [first, last) of plane `image`, counted through images and channels.
  void run(int64_t image, int64_t first, int64_t last) {
    const T* plane = static_cast<const T*>(p.x) + image / p.c * p.stride_n + image % p.c * p.stride_c;
    T* result = static_cast<T*>(p.y) + image * p.out_h * p.out_w;
    for (int64_t y = this->start(first); y < last; y += rows) {
      this->place(y, first, last, plane, 1, result, p.out_w);
      walk();
    }
  }

 private:
  // Vertical sums of input pixels x to x + size.
  GANKERN_HD void read(int64_t x, V* column) const {
    if (x + V::size <= 0 || x >= p.in_w) return clear(column, rows);
    if (x >= 0 && x + V::size <= p.in_w) {
      this->vertical(column, [&](int i) __attribute__((always_inline)) { return V::load(from[i] + x * step[i]); });
    } else {
      this->vertical(column, [&](int i) __attribute__((always_inline)) {
        return step[i] == 0 ? V::fill(0) : V::load(from[i] + x, -x, p.in_w - x);
      });
    }
  }

  GANKERN_HD void write(int64_t x, int r, V v) const {
    if (to[r] == nullptr || x >= p.out_w) return;
    if (x + V::size <= p.out_w) {
      v.store(to[r] + x);
    } else {
      v.store(to[r] + x, 0, p.out_w - x);
    }
  }

  // Sample s makes output t - pad with t = 2 s - 1 (odd taps) and t = 2 s (even taps), from samples s and s + 1. Column
  // 0, where the first register begins, has an odd t or an even one; an even one with the sample before `now`.
  template <bool odd_first>
  void walk_up() const {
    V before[rows], now[rows], next[rows];
    int64_t s = odd_first ? (1 - p.pad_x) / 2 : 1 - p.pad_x / 2;
    read(s, now);
    if (!odd_first) read(s - V::size, before);
    for (int64_t x = 0; x < p.out_w; x += 2 * V::size) {
      read(s += V::size, next);
      for (int r = 0; r < rows; ++r) {
        const V later = shifted<1>(now[r], next[r]), none = V::fill(0);
        const V odd_t = none.plus(weight_x[1], now[r]).plus(weight_x[3], later);
        if constexpr (odd_first) {
          const V even_t = none.plus(weight_x[0], now[r]).plus(weight_x[2], later);
          write(x, r, alternating_low(odd_t, even_t));
          write(x + V::size, r, alternating_high(odd_t, even_t));
        } else {
          const V earlier = shifted<V::size - 1>(before[r], now[r]);
          const V even_t = none.plus(weight_x[0], earlier).plus(weight_x[2], now[r]);
          write(x, r, alternating_low(even_t, odd_t));
          write(x + V::size, r, alternating_high(even_t, odd_t));
          before[r] = now[r];
        }
        now[r] = next[r];
      }
    }
  }

  void walk() const {
    V now[rows], next[rows];
    if constexpr (up == 2) {
      p.pad_x % 2 != 0 ? walk_up<true>() : walk_up<false>();
    } else if constexpr (down == 2) {
      V more[rows], even_now[rows], odd_now[rows];
      const auto read_pair = [&](int64_t x, V* a, V* b) {
        read(x, a), read(x + V::size, b);
        for (int r = 0; r < rows; ++r) {
          const V evens = even(a[r], b[r]);
          b[r] = odd(a[r], b[r]), a[r] = evens;
        }
      };
      read_pair(-p.pad_x, even_now, odd_now);
      for (int64_t x = 0; x < p.out_w; x += V::size) {
        read_pair(2 * (x + V::size) - p.pad_x, next, more);
        for (int r = 0; r < rows; ++r) {
          const V sum = V::fill(0).plus(weight_x[0], even_now[r]).plus(weight_x[1], odd_now[r]);
          const V even_later = shifted<1>(even_now[r], next[r]), odd_later = shifted<1>(odd_now[r], more[r]);
          write(x, r, sum.plus(weight_x[2], even_later).plus(weight_x[3], odd_later));
          even_now[r] = next[r], odd_now[r] = more[r];
        }
      }
    } else {
      read(-p.pad_x, now);
      for (int64_t x = 0; x < p.out_w; x += V::size) {
        read(x + V::size - p.pad_x, next);
        for (int r = 0; r < rows; ++r) {
          V sum = V::fill(0).plus(weight_x[0], now[r]).plus(weight_x[1], shifted<1>(now[r], next[r]));
          sum = sum.plus(weight_x[2], shifted<2>(now[r], next[r]));
          if constexpr (taps == 4) sum = sum.plus(weight_x[3], shifted<3>(now[r], next[r]));
          write(x, r, sum);
          now[r] = next[r];
        }
      }
    }
  }
};

template <typename T, int up, int down, int taps>
void run_blocks_of(const UpFirDn2dParams& p, const Separated<arithmetic_t<T>>& filter, int64_t begin, int64_t end) {
  constexpr int rows = Vec<arithmetic_t<T>>::size * sizeof(arithmetic_t<T>) == 64 ? 4 : 2;  // as registers allow
  PixelBlock<T, up, down, taps, 2> pixels(p, filter);
  PlaneBlock<T, up, down, taps, rows> planes(p, filter);
  for (int64_t row = begin; row < end;) {
    const int64_t image = row / p.out_h, y = row % p.out_h;
    const int64_t last = p.out_h - y < end - row ? p.out_h : y + end - row;
    if (p.channels_last) {
      pixels.run(image, y, last);
    } else {
      planes.run(image, y, last);
    }
    row += last - y;
  }
}

// Runs rows [begin, end) if the filter and the layout are of the kind above; returns whether.
template <typename T>
bool run_blocks(const UpFirDn2dParams& p, const Separated<arithmetic_t<T>>& filter, int64_t begin, int64_t end) {
  const bool square = p.up_x == p.up_y && p.down_x == p.down_y && filter.taps_x == filter.taps_y;
  const bool few_channels = p.channels_last && p.c < Vec<arithmetic_t<T>>::size;
  if (few_channels || filter.count != 1 || !square) return false;
  if (p.up_x == 2 && p.down_x == 1 && filter.taps_x == 4) {
    run_blocks_of<T, 2, 1, 4>(p, filter, begin, end);
  } else if (p.up_x == 1 && p.down_x == 2 && filter.taps_x == 4) {
    run_blocks_of<T, 1, 2, 4>(p, filter, begin, end);
  } else if (p.up_x == 1 && p.down_x == 1 && filter.taps_x == 4) {
    run_blocks_of<T, 1, 1, 4>(p, filter, begin, end);
  } else if (p.up_x == 1 && p.down_x == 1 && filter.taps_x == 3) {
    run_blocks_of<T, 1, 1, 3>(p, filter, begin, end);
  } else {
    return false;
  }
  return true;
}

}  // namespace gankern::cpu::GANKERN_SIMD
