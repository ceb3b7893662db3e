// Winograd's 3x3 convolution of 4x4 outputs from 6x6 inputs, F(4x4, 3x3): transforms and parameters.
//
//   y = A^T [ (G w G^T) * (B^T x B) ] A,   and, transposed in w,   dw = G^T [ (A dy A^T) * (B^T x B) ] G,
//
// where * multiplies position by position; sums over channels (y) or tiles (dw) are taken between the brackets, which
// makes them 36 matrix products. The polynomials are evaluated at 0, +-sqrt(1/2), +-sqrt(2) and infinity: measured
// against float64 they err a quarter as much as the usual 0, +-1, +-2, at equal cost.
#pragma once

#include "bias_act.h"
#include "numeric.h"

namespace gankern {

constexpr int kWinogradOut = 4, kWinogradIn = 6, kWinogradPositions = 36;

// The work on output channels is shared out in columns of so many; weights of those that are missing are zeros.
constexpr int64_t kWinogradColumns = 32;

// Distances of exact powers of two would map all 36 positions to the same lines of the cache: so many floats are put
// between.
constexpr int64_t kWinogradSkew = 16;

namespace winograd {

constexpr float kSmall = 0.70710678118654752f, kLarge = 1.41421356237309505f;  // the positive points

// B^T d, for vectors of numbers d and out with these distances between their elements.
template <int from, int to, typename V>
GANKERN_HD void input(const V* d, V* out) {
  const V d1 = d[from], d2 = d[2 * from], d3 = d[3 * from], d4 = d[4 * from];
  const V even_small = d4 - d2 * 2.0f, odd_small = d3 - d1 * 2.0f;
  const V even_large = d4 - d2 * 0.5f, odd_large = d3 - d1 * 0.5f;
  out[0] = d[0] + d4 - d2 * 2.5f;
  out[to] = even_small + odd_small * kSmall;
  out[2 * to] = even_small - odd_small * kSmall;
  out[3 * to] = even_large + odd_large * kLarge;
  out[4 * to] = even_large - odd_large * kLarge;
  out[5 * to] = d1 + d[5 * from] - d3 * 2.5f;
}

// A^T m
template <int from, int to, typename V>
GANKERN_HD void output(const V* m, V* y) {
  const V even_small = m[from] + m[2 * from], odd_small = (m[from] - m[2 * from]) * kSmall;
  const V even_large = m[3 * from] + m[4 * from], odd_large = (m[3 * from] - m[4 * from]) * kLarge;
  y[0] = m[0] + even_small + even_large;
  y[to] = odd_small + odd_large;
  y[2 * to] = even_small * 0.5f + even_large * 2.0f;
  y[3 * to] = m[5 * from] + odd_small * 0.5f + odd_large * 2.0f;
}

// A y
template <int from, int to, typename V>
GANKERN_HD void output_transposed(const V* y, V* m) {
  const V y0 = y[0], y1 = y[from], y2 = y[2 * from], y3 = y[3 * from];
  const V even_small = y0 + y2 * 0.5f, odd_small = y1 + y3 * 0.5f;
  const V even_large = y0 + y2 * 2.0f, odd_large = y1 + y3 * 2.0f;
  m[0] = y0;
  m[to] = even_small + odd_small * kSmall;
  m[2 * to] = even_small - odd_small * kSmall;
  m[3 * to] = even_large + odd_large * kLarge;
  m[4 * to] = even_large - odd_large * kLarge;
  m[5 * to] = y3;
}

// G w
template <int from, int to, typename V>
GANKERN_HD void weight(const V* w, V* u) {
  constexpr float small = -2.0f / 3, large = 1.0f / 6;
  const V w0 = w[0], w1 = w[from], w2 = w[2 * from];
  const V even_small = (w0 + w2 * 0.5f) * small, even_large = (w0 + w2 * 2.0f) * large;
  u[0] = w0;
  u[to] = even_small + w1 * (small * kSmall);
  u[2 * to] = even_small - w1 * (small * kSmall);
  u[3 * to] = even_large + w1 * (large * kLarge);
  u[4 * to] = even_large - w1 * (large * kLarge);
  u[5 * to] = w2;
}

// G^T u
template <int from, int to, typename V>
GANKERN_HD void weight_transposed(const V* u, V* w) {
  constexpr float small = -2.0f / 3, large = 1.0f / 6;
  const V even_small = (u[from] + u[2 * from]) * small, even_large = (u[3 * from] + u[4 * from]) * large;
  const V odd_small = u[from] - u[2 * from], odd_large = u[3 * from] - u[4 * from];
  w[0] = u[0] + even_small + even_large;
  w[to] = odd_small * (small * kSmall) + odd_large * (large * kLarge);
  w[2 * to] = u[5 * from] + even_small * 0.5f + even_large * 2.0f;
}

}  // namespace winograd

// Images [n, c, h, w] in memory, contiguous or channels_last.
struct WinogradImages {
  DType dtype;
  void* data;
  int64_t n, c, h, w;
  bool channels_last;

  int64_t pixel() const { return channels_last ? c : 1; }
  int64_t channel() const { return channels_last ? 1 : h * w; }
};

// Tile t of tiles() makes the outputs [4 row, 4 row + 4) x [4 column, 4 column + 4) of an image.
struct WinogradTiles {
  int64_t n, rows, columns;  // images, tiles in each
  int64_t pad_y, pad_x;

  WinogradTiles() = default;
  WinogradTiles(int64_t n_, int64_t out_h, int64_t out_w, int64_t pad_y_, int64_t pad_x_)
      : n(n_), rows((out_h + 3) / 4), columns((out_w + 3) / 4), pad_y(pad_y_), pad_x(pad_x_) {}
  int64_t count() const { return n * rows * columns; }
};

// Weights 3x3 of o and i channels. Either their taps are next to each other, and one of the strides is 9;
// or channels are (channels_last), and one of them is 1.
struct WinogradWeights {
  DType dtype;
  const void* data;
  int64_t o, i, stride_o, stride_i, stride_tap;
  bool rotated;  // by 180 degrees
};

// y = clamp(gain * f(out_scale * conv(scale * x) + strength * noise + b))
struct WinogradConv2dParams {
  WinogradImages x, y;
  WinogradTiles tiles;
  WinogradWeights w;
  float* kept;             // memory for the transformed weights; of few tiles for the transformed images
  const float* scale;      // [n, x.c] or null
  const float* out_scale;  // [n, y.c] or null
  const float* noise;      // [n or 1, y.h, y.w] or null
  int64_t noise_stride;    // from image to image
  float strength;
  const float* b;  // [y.c] or null
  Activation act;
  double alpha, gain, clamp;  // clamp < 0: none
};

struct WinogradWeightGradientParams {
  WinogradImages x, dy;
  WinogradTiles tiles;
  const float* scale;     // [n, x.c] or null
  const float* dy_scale;  // [n, dy.c] or null
  float *v, *d;           // x and dy in the transform domain, a group of tiles at a time
  float* sums;            // of each part [36, x.c, dy.c], both rounded up; none where one group is all there is
  float* dw;              // [dy.c, x.c, 3, 3]
};

}  // namespace gankern
