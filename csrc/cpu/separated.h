// Filters of upfirdn2d on the CPU, in the form that the loops want.
#pragma once

#include "../math/upfirdn2d.h"

namespace gankern::cpu::GANKERN_SIMD {

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
    column[0] = 1;  // one row of taps is its own product
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

}  // namespace gankern::cpu::GANKERN_SIMD
