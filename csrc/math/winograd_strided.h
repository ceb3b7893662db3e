// Winograd's 3x3 convolution at stride 2, and its transpose: transforms and parameters.
//
// Of the kernel (w0, w1, w2) the even pixels of the large image see w0 and w2, the odd ones w1 alone. In one dimension,
// 4 pixels x of the small image and 9 of the large one,
//
//   transposed:  y[2p] = w0 x[p] + w2 x[p - 1],  y[2p + 1] = w1 x[p],
//
// the even y are the product of polynomials of degree 3 and 1, from its values at 5 points, and the odd ones 4 plain
// products. With A that evaluates (9 from 4: the points, then x itself) and C that interpolates (9 from 9),
//
//   transposed:  y = C [ (G w) * (A x) ],   convolution:  x = A^T [ (G w) * (C^T y) ],
//   weights:     dw = G^T sum [ (A x) * (C^T y) ].
//
// Neighbouring tiles share a pixel of the large image: its value is the sum of theirs. Nested in two dimensions there
// are 81 products of 4x4 small and 9x9 large pixels, where 144 would be plain ones. The plain positions of an axis have
// one weight, so that of the weights there are 36, and of the matrix products, some of them with 4 or 16 times the
// rows.
//
// The points are 0, +-3/4, 2 and infinity: measured against float64 they err half as much as 0, +-1, 2 or 0, +-1, 1/2.
#pragma once

#include "winograd.h"

namespace gankern {

constexpr int kStridedSmall = 4, kStridedLarge = 9, kStridedLines = 9;

namespace winograd_strided {

constexpr float kPoint = 0.75f, kSquare = kPoint * kPoint, kLast = 2.0f;
constexpr float kPlus = 0.5f / (kSquare * (kPoint - kLast)), kMinus = -0.5f / (kSquare * (kPoint + kLast));
constexpr float kOther = 1 / (kLast * (kLast * kLast - kSquare));

// A x: the values at the points, infinity last, then x.
template <int from, int to, typename V>
GANKERN_HD void small(const V* x, V* m) {
  const V x0 = x[0], x1 = x[from], x2 = x[2 * from], x3 = x[3 * from];
  const V even = x0 + x2 * kSquare, odd = (x1 + x3 * kSquare) * kPoint;
  m[0] = x0;
  m[to] = even + odd;
  m[2 * to] = even - odd;
  m[3 * to] = x0 + (x1 + (x2 + x3 * kLast) * kLast) * kLast;
  m[4 * to] = x3;
  m[5 * to] = x0;
  m[6 * to] = x1;
  m[7 * to] = x2;
  m[8 * to] = x3;
}

// A^T m
template <int from, int to, typename V>
GANKERN_HD void small_transposed(const V* m, V* x) {
  const V even = m[from] + m[2 * from], odd = (m[from] - m[2 * from]) * kPoint, last = m[3 * from];
  x[0] = m[0] + even + last + m[5 * from];
  x[to] = odd + last * kLast + m[6 * from];
  x[2 * to] = even * kSquare + last * (kLast * kLast) + m[7 * from];
  x[3 * to] = odd * kSquare + last * (kLast * kLast * kLast) + m[4 * from] + m[8 * from];
}

// C m, but for the share of the tile before this one in y[0]: its m at infinity.
template <int from, int to, typename V>
GANKERN_HD void large_transposed(const V* m, V* y) {
  const V m0 = m[0], m4 = m[4 * from];
  const V sum = m[from] + m[2 * from], difference = m[from] - m[2 * from];
  const V rest = m0 * (1 / (kSquare * kLast)) + m[3 * from] - m4 * kLast;
  y[0] = m0;
  y[to] = m[5 * from];
  y[2 * to] = -(rest * kSquare + difference * (kPoint * kLast));
  y[3 * to] = m[6 * from];
  y[4 * to] = difference * kPoint - sum * kLast - m0 * (1 / kSquare) - m4 * kSquare;
  y[5 * to] = m[7 * from];
  y[6 * to] = rest + sum;
  y[7 * to] = m[8 * from];
  y[8 * to] = m4;
}

// C^T y
template <int from, int to, typename V>
GANKERN_HD void large(const V* y, V* m) {
  const V y2 = y[2 * from], y4 = y[4 * from], y6 = y[6 * from];
  const V sum = y6 - y4 * kLast, difference = (y4 - y2 * kLast) * kPoint, rest = y6 - y2 * kSquare;
  m[0] = y[0] - y4 * (1 / kSquare) + rest * (1 / (kSquare * kLast));
  m[to] = sum + difference;
  m[2 * to] = sum - difference;
  m[3 * to] = rest;
  m[4 * to] = y[8 * from] - y4 * kSquare - rest * kLast;
  m[5 * to] = y[from];
  m[6 * to] = y[3 * from];
  m[7 * to] = y[5 * from];
  m[8 * to] = y[7 * from];
}

// G w: at the points, then the plain one.
template <int from, int to, typename V>
GANKERN_HD void weight(const V* w, V* u) {
  const V w0 = w[0], w2 = w[2 * from];
  u[0] = w0;
  u[to] = (w0 + w2 * kPoint) * kPlus;
  u[2 * to] = (w0 - w2 * kPoint) * kMinus;
  u[3 * to] = (w0 + w2 * kLast) * kOther;
  u[4 * to] = w2;
  u[5 * to] = w[from];
}

// G^T u
template <int from, int to, typename V>
GANKERN_HD void weight_transposed(const V* u, V* w) {
  const V plus = u[from] * kPlus, minus = u[2 * from] * kMinus, other = u[3 * from] * kOther;
  w[0] = u[0] + plus + minus + other;
  w[to] = u[5 * from];
  w[2 * to] = u[4 * from] + (plus - minus) * kPoint + other * kLast;
}

}  // namespace winograd_strided

// Tile [row, column] is the pixels [4 row, 4 row + 4) x [4 column, 4 column + 4) of the small image, and of the large
// one [8 row - pad_y, 8 row + 9 - pad_y) x [8 column - pad_x, 8 column + 9 - pad_x).
struct WinogradStridedTiles {
  int64_t n, rows, columns;  // images, tiles in each
  int64_t pad_y, pad_x;

  WinogradStridedTiles() = default;
  WinogradStridedTiles(int64_t n_, int64_t small_h, int64_t small_w, int64_t pad_y_, int64_t pad_x_)
      : n(n_), rows((small_h + 3) / 4), columns((small_w + 3) / 4), pad_y(pad_y_), pad_x(pad_x_) {}
  int64_t count() const { return n * rows * columns; }
};

// y = out_scale * conv(scale * x); x is the large image and y the small one or, transposed, the reverse.
struct WinogradStridedConv2dParams {
  WinogradImages x, y;
  WinogradStridedTiles tiles;
  bool transposed;
  WinogradWeights w;
  float* kept;             // memory for the transformed weights; of few tiles for the transformed images
  const float* scale;      // [n, x.c] or null
  const float* out_scale;  // [n, y.c] or null
};

struct WinogradStridedWeightGradientParams {
  WinogradImages large, small;
  WinogradStridedTiles tiles;
  const float* large_scale;  // [n, large.c] or null
  const float* small_scale;  // [n, small.c] or null
  float *v, *d;              // the large and the small image in the transform domain, a block of tiles at a time
  float* sums;               // of each part [36, large channels, small channels], both rounded up, or none
  float* dw;                 // [small.c, large.c, 3, 3]
};

}  // namespace gankern
