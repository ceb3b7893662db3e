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

// Input channel `i` of a chunk whose first group's sums are `sums`: adds up the groups and transforms back, into
// dw [o, i, 3, 3] of all channels.
template <typename Transform>
void unpack_gradient(const WinogradGradientUnits& units, const float* sums, int64_t chunk, int64_t i, float* dw,
                     int64_t o_all, int64_t i_all) {
  using V = Vec<float>;
  using R = decltype(V::v);
  const int64_t position = units.inputs * units.outputs, group = units.per_group * units.size();
  const int64_t first = chunk % units.o_chunks * units.outputs, outputs = std::min(units.outputs, o_all - first);
  i += chunk / units.o_chunks * units.inputs;
  for (int64_t o = 0; o < outputs; o += V::size) {
    const float* from = sums + i % units.inputs * units.outputs + o;
    R sum[36], half[18], w[9];
    for (int k = 0; k < 36; ++k) sum[k] = V::load(from + k * position).v;
    for (int64_t g = 1; g < units.groups; ++g) {
      for (int k = 0; k < 36; ++k) sum[k] = sum[k] + V::load(from + g * group + k * position).v;
    }
#pragma GCC unroll 6
    for (int j = 0; j < 6; ++j) Transform::template weight_transposed<6, 6>(sum + j, half + j);
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) Transform::template weight_transposed<1, 1>(half + 6 * j, w + 3 * j);
    for (int k = 0; k < 9; ++k) {
      for (int64_t c = 0; c < std::min<int64_t>(V::size, outputs - o); ++c) {
        dw[((first + o + c) * i_all + i) * 9 + k] = w[k][c];
      }
    }
  }
}

// The same for all chunks' input channels [begin, end).
template <typename Transform>
void unpack_gradients(const WinogradGradientUnits& units, const float* partial, float* dw, int64_t o_all, int64_t i_all,
                      int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    for (int64_t column = 0; column < units.o_chunks; ++column) {
      const int64_t chunk = i / units.inputs * units.o_chunks + column;
      unpack_gradient<Transform>(units, partial + chunk * units.size(), chunk, i % units.inputs, dw, o_all, i_all);
    }
  }
}

}  // namespace gankern::cpu::GANKERN_SIMD
