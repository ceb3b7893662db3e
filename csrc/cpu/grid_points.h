// The points of a grid, block by block: their pixels and fractions.
#pragma once

#include <cmath>

#include "grid_sample.h"

namespace gankern::cpu::GANKERN_SIMD {

// Calls body.template operator()<T>() with the storage type.
template <typename Body>
void for_type(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::f64:
      return body.template operator()<double>();
    case DType::f32:
      return body.template operator()<float>();
    case DType::bf16:
      return body.template operator()<bfloat16>();
    case DType::f16:
      return body.template operator()<float16>();
  }
}

// Up to kGridBlock points of one image.
template <typename A>
struct Points {
  static constexpr int64_t kSize = kGridBlock + 32;  // whole vectors may be read at the end

  const GridSampleParams& p;
  const GridAxis<A> axis_x, axis_y;
  int64_t count = 0;
  A x[kSize] = {}, y[kSize] = {};  // how far right of and below their pixel
  A yy[2 * kSize] = {};            // every y twice
  int32_t column[kSize] = {}, row[kSize] = {};
  int64_t at[kSize] = {};      // row * in_w + column
  uint8_t inside[kSize] = {};  // bits: 1 left column, 2 right column, 4 upper row, 8 lower row

  // Consecutive points with all, some or none of their four pixels inside the image.
  enum class Kind { inside, edge, outside };
  struct Run {
    int64_t begin, end;
    Kind kind;
  };
  int64_t runs = 0;
  Run run[kGridBlock];

  explicit Points(const GridSampleParams& params)
      : p(params), axis_x(p.in_w, p.align_corners), axis_y(p.in_h, p.align_corners) {}

  void find(int64_t image, int64_t block) {
    const int64_t first = image * p.points + block * kGridBlock;
    count = p.points - block * kGridBlock < kGridBlock ? p.points - block * kGridBlock : kGridBlock;
    for_type(p.grid_dtype, [&]<typename G>() { find(static_cast<const G*>(p.grid) + 2 * first); });
  }

  // Whether the pixel is inside: 0 upper left, 1 upper right, 2 lower left, 3 lower right.
  bool has(int64_t i, int pixel) const {
    const int needed = (1 << pixel % 2) | (4 << pixel / 2);
    return (inside[i] & needed) == needed;
  }

  // Of the same four pixels.
  void weights(int64_t i, A (&weight)[4]) const {
    weight[0] = (1 - x[i]) * (1 - y[i]), weight[1] = x[i] * (1 - y[i]);
    weight[2] = (1 - x[i]) * y[i], weight[3] = x[i] * y[i];
  }

 private:
  template <typename G>
  void find(const G* __restrict grid) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const A px = axis_x.position(A(load(grid[2 * i]))), py = axis_y.position(A(load(grid[2 * i + 1])));
      const A left = std::floor(px), top = std::floor(py);
      x[i] = px - left, y[i] = py - top;
      column[i] = pixel_below(left, p.in_w), row[i] = pixel_below(top, p.in_h);
    }
    const int32_t w = int32_t(p.in_w), h = int32_t(p.in_h);
    int all = 15;
#pragma omp simd reduction(& : all)
    for (int64_t i = 0; i < count; ++i) {
      const int32_t c = column[i], r = row[i];
      const int bits = int(c >= 0 && c < w) | int(c >= -1 && c < w - 1) << 1 | int(r >= 0 && r < h) << 2 |
                       int(r >= -1 && r < h - 1) << 3;
      at[i] = int64_t(r) * w + c;
      inside[i] = uint8_t(bits);
      all &= bits;
    }
    for (int64_t i = 0; i < count; ++i) yy[2 * i] = yy[2 * i + 1] = y[i];
    runs = 0;
    for (int64_t i = 0; i < count; i = run[runs++].end) {
      run[runs].kind = all == 15 ? Kind::inside : kind_of(inside[i]);
      run[runs].begin = i;
      run[runs].end = i + 1;
      if (all == 15) run[runs].end = count;
      while (run[runs].end < count && kind_of(inside[run[runs].end]) == run[runs].kind) ++run[runs].end;
    }
  }

  static Kind kind_of(int bits) {
    return bits == 15 ? Kind::inside : (bits & 3) != 0 && (bits & 12) != 0 ? Kind::edge : Kind::outside;
  }
};

}  // namespace gankern::cpu::GANKERN_SIMD
