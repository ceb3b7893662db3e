// Weights of 3x3 to and from the transform domain, by any transforms of 3 numbers to 6 and back.
#pragma once

#include <algorithm>

#include "winograd.h"
#include "winograd_gemm.h"

namespace gankern::cpu::GANKERN_SIMD {

// Packs columns [begin, end) of output channels into u; tap(o, i, k) is the weight's number in row k / 3, column k % 3.
template <typename Transform, typename Tap>
void pack_weights(float* u_all, int64_t o_all, int64_t i_all, int64_t begin, int64_t end, const Tap& tap) {
  using V = Vec<float>;
  using R = decltype(V::v);
  for (int64_t o = begin * kWinogradColumns; o < end * kWinogradColumns; o += kBlockColumns) {
    float* u = u_all + o * kWinogradPositions * i_all;
    const int64_t outputs = std::clamp<int64_t>(o_all - o, 0, kBlockColumns);
    alignas(64) float w[9][kBlockColumns] = {};
    for (int64_t i = 0; i < i_all; ++i) {
      for (int64_t c = 0; c < outputs; ++c) {
        for (int k = 0; k < 9; ++k) w[k][c] = tap(o + c, i, k);
      }
      for (int c = 0; c < kBlockColumns; c += V::size) {
        R g[9], half[18], product[36];
        for (int k = 0; k < 9; ++k) g[k] = V::load(&w[k][c]).v;
#pragma GCC unroll 3
        for (int j = 0; j < 3; ++j) Transform::template weight<3, 3>(g + j, half + j);
#pragma GCC unroll 6
        for (int j = 0; j < 6; ++j) Transform::template weight<1, 1>(half + 3 * j, product + 6 * j);
#pragma GCC unroll 36
        for (int k = 0; k < 36; ++k) V{product[k]}.store(u + (k * i_all + i) * kBlockColumns + c);
      }
    }
  }
}

// Transforms the sums of all parts [36, inputs, outputs] back into dw [o, i, 3, 3], input channels [begin, end).
template <typename Transform>
void unpack_gradient(const WinogradGradientPlan& plan, int64_t parts, const float* sums, float* dw, int64_t o_all,
                     int64_t i_all, int64_t begin, int64_t end) {
  using V = Vec<float>;
  using R = decltype(V::v);
  for (int64_t i = begin; i < end; ++i) {
    for (int64_t o = 0; o < o_all; o += V::size) {
      const float* from = sums + i * plan.outputs + o;
      R sum[36], half[18], w[9];
#pragma GCC unroll 36
      for (int k = 0; k < 36; ++k) sum[k] = V::load(from + k * plan.inputs * plan.outputs).v;
      for (int64_t part = 1; part < parts; ++part) {
        const float* more = from + part * plan.sums();
        for (int k = 0; k < 36; ++k) sum[k] = sum[k] + V::load(more + k * plan.inputs * plan.outputs).v;
      }
#pragma GCC unroll 6
      for (int j = 0; j < 6; ++j) Transform::template weight_transposed<6, 6>(sum + j, half + j);
#pragma GCC unroll 3
      for (int j = 0; j < 3; ++j) Transform::template weight_transposed<1, 1>(half + 6 * j, w + 3 * j);
      for (int k = 0; k < 9; ++k) {
        for (int64_t c = 0; c < std::min<int64_t>(V::size, o_all - o); ++c) dw[((o + c) * i_all + i) * 9 + k] = w[k][c];
      }
    }
  }
}

// One position's columns [begin, end) of kBlockColumns: c [inputs, outputs] += v d, summed over `depth` rows of
// v [lanes of inputs][depth][lane] and of d [columns][depth][kBlockColumns]. Some rows at a time, for the second-level
// cache.
inline void multiply_gradient(const WinogradGradientPlan& plan, const float* v, const float* d, int64_t depth, float* c,
                              int64_t begin, int64_t end, bool add) {
  constexpr int64_t kDepth = 256, kLanes = Vec<float>::size;
  for (int64_t first = 0; first < depth; first += kDepth, add = true) {
    const int64_t rows = std::min(kDepth, depth - first);
    for (int64_t column = begin; column < end; ++column) {
      const float* right = d + (column * depth + first) * kBlockColumns;
      for (int64_t i = 0; i < plan.inputs; i += kLanes) {
        float* sums = c + i * plan.outputs + column * kBlockColumns;
        multiply({v + i * depth + first * kLanes, 1, kLanes, right, sums, plan.outputs, rows, add}, kLanes);
      }
    }
  }
}

}  // namespace gankern::cpu::GANKERN_SIMD
