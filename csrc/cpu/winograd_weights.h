// Weights of 3x3 to and from the transform domain, by any transforms of 3 numbers to 6 and back.
//
// They pass through the registers as squares: so many output channels, the lanes, by as many input channels.
#pragma once

#include <algorithm>

#include "winograd.h"
#include "winograd_gemm.h"
#include "winograd_memory.h"
#include "winograd_tiles.h"

namespace gankern::cpu::GANKERN_SIMD {

constexpr int kTaps = 9;

// load_square where channels are next to each other.
template <typename T>
void load_square_by_taps(const WinogradWeights& w, const T* from, int64_t outputs, int64_t inputs, Lanes* taps) {
  const bool transposed = w.stride_o != 1;
  const int64_t rows = transposed ? outputs : inputs, numbers = transposed ? inputs : outputs;
  const int64_t stride = transposed ? w.stride_o : w.stride_i;
  for (int tap = 0; tap < kTaps; ++tap, from += w.stride_tap) {
    Lanes square[kLanes];
    for (int r = 0; r < kLanes; ++r) square[r] = Lanes::load(from + r * stride, 0, r < rows ? numbers : 0);
    if (transposed) transpose(square);
    for (int k = 0; k < kLanes; ++k) taps[kTaps * k + tap] = square[k];
  }
}

// The numbers of channels [o, o + lanes) and [i, i + lanes): of each i its 9 taps, their lanes being o. Zero beyond the
// last channels.
template <typename T>
void load_square(const WinogradWeights& w, int64_t o, int64_t i, Lanes* taps) {
  const int64_t outputs = std::min<int64_t>(kLanes, w.o - o), inputs = std::min<int64_t>(kLanes, w.i - i);
  const T* from = static_cast<const T*>(w.data) + o * w.stride_o + i * w.stride_i;
  if (w.stride_tap != 1) return load_square_by_taps(w, from, outputs, inputs, taps);
  if (w.stride_i == kTaps) {  // an output channel is a row of numbers: transposed
    for (int first = 0; first < kTaps * kLanes; first += kLanes) {
      Lanes* rows = taps + first;
      for (int r = 0; r < kLanes; ++r) {
        rows[r] = r < outputs ? Lanes::load(from + r * w.stride_o + first, 0, kTaps * inputs - first) : Lanes::fill(0);
      }
      transpose(rows);
    }
    return;
  }
  for (int64_t k = 0; k < kLanes; ++k, from += w.stride_i, taps += kTaps) {  // an input channel is
    const int64_t numbers = k < inputs ? kTaps * outputs : 0;
    if constexpr (kLanes > kTaps) {
      Lanes rows[kLanes];
      for (int r = 0; r < kLanes; ++r) rows[r] = Lanes::load(from + kTaps * r, 0, numbers - kTaps * r);
      transpose(rows);
      for (int tap = 0; tap < kTaps; ++tap) taps[tap] = rows[tap];
    } else {
      alignas(64) float columns[kTaps][kLanes] = {};
      for (int n = 0; n < numbers; ++n) columns[n % kTaps][n / kTaps] = load(from[n]);
      for (int tap = 0; tap < kTaps; ++tap) taps[tap] = Lanes::load(columns[tap]);
    }
  }
}

// Transforms kBlockColumns output channels from o, input channels [begin, end), into u: the positions so far apart,
// each [end - begin, kBlockColumns].
template <typename Transform>
void pack_weights(const WinogradWeights& w, int64_t o, int64_t begin, int64_t end, float* u_all, int64_t position) {
  using V = decltype(Lanes::v);
  for (int64_t i = begin; i < end; i += kLanes) {
    for (int c = 0; c < kBlockColumns; c += kLanes) {
      Lanes taps[kTaps * kLanes];
      for_type(w.dtype, [&]<typename T>() { load_square<T>(w, o + c, i, taps); });
      float* u = u_all + (i - begin) * kBlockColumns + c;
      for (int64_t row = 0; row < std::min<int64_t>(kLanes, end - i); ++row, u += kBlockColumns) {
        V g[9], half[18], product[36];
#pragma GCC unroll 9
        for (int k = 0; k < kTaps; ++k) g[k] = taps[kTaps * row + (w.rotated ? 8 - k : k)].v;
#pragma GCC unroll 3
        for (int j = 0; j < 3; ++j) Transform::template weight<3, 3>(g + j, half + j);
#pragma GCC unroll 6
        for (int j = 0; j < 6; ++j) Transform::template weight<1, 1>(half + 3 * j, product + 6 * j);
#pragma GCC unroll 36
        for (int k = 0; k < 36; ++k) Lanes{product[k]}.store(u + k * position);
      }
    }
  }
}

// The same of all input channels into packed weights, columns [begin, end) of kWinogradColumns output channels.
template <typename Transform>
void pack_columns(const WinogradWeights& w, float* u, int64_t begin, int64_t end) {
  for (int64_t o = begin * kWinogradColumns; o < end * kWinogradColumns; o += kBlockColumns) {
    pack_weights<Transform>(w, o, 0, w.i, u + o / kBlockColumns * packed_column(w.i), packed_position(w.i));
  }
}

// Sums of a weight gradient in the transform domain: of input channels [i, i + inputs) rows of the output channels
// [o, o + outputs).
struct GradientSums {
  const float* data;
  int64_t position, row, part;  // distances
  int64_t parts;                // to be added up
};

// Transforms them back into dw [o_all, i_all, 3, 3].
template <typename Transform>
void unpack_gradient(const GradientSums& sums, float* dw, int64_t o_all, int64_t i_all, int64_t o_begin, int64_t o_end,
                     int64_t i_begin, int64_t i_end) {
  using V = decltype(Lanes::v);
  i_end = std::min(i_end, i_all), o_end = std::min(o_end, o_all);
  for (int64_t o = o_begin; o < o_end; o += kLanes) {
    for (int64_t i = i_begin; i < i_end; i += kLanes) {
      const int64_t inputs = std::min<int64_t>(kLanes, i_end - i);
      Lanes taps[kTaps * kLanes];
      if (inputs < kLanes) std::fill(taps, taps + kTaps * kLanes, Lanes::fill(0));
      for (int64_t row = 0; row < inputs; ++row) {
        const float* from = sums.data + (i - i_begin + row) * sums.row + o - o_begin;
        V sum[36], half[18], w[9];
#pragma GCC unroll 36
        for (int k = 0; k < 36; ++k) sum[k] = Lanes::load(from + k * sums.position).v;
        for (int64_t part = 1; part < sums.parts; ++part) {
          const float* more = from + part * sums.part;
          for (int k = 0; k < 36; ++k) sum[k] = sum[k] + Lanes::load(more + k * sums.position).v;
        }
#pragma GCC unroll 6
        for (int j = 0; j < 6; ++j) Transform::template weight_transposed<6, 6>(sum + j, half + j);
#pragma GCC unroll 3
        for (int j = 0; j < 3; ++j) Transform::template weight_transposed<1, 1>(half + 6 * j, w + 3 * j);
#pragma GCC unroll 9
        for (int k = 0; k < kTaps; ++k) taps[kTaps * row + k] = {w[k]};
      }
      const int64_t outputs = std::min<int64_t>(kLanes, o_end - o);
      for (int64_t first = 0; first < kTaps * inputs; first += kLanes) {
        Lanes* rows = taps + first;  // what is beyond the last input channel is not written
        transpose(rows);
        float* to = dw + (o * i_all + i) * kTaps + first;
        for (int64_t r = 0; r < outputs; ++r) rows[r].store(to + r * i_all * kTaps, 0, kTaps * inputs - first);
      }
    }
  }
}

// The same of units [begin, end) of kRows input channels, all output channels.
template <typename Transform>
void unpack_rows(const WinogradGradientPlan& plan, int64_t parts, const float* sums, float* dw, int64_t o_all,
                 int64_t i_all, int64_t begin, int64_t end) {
  const int64_t i = begin * plan.kRows;
  unpack_gradient<Transform>({sums + i * plan.outputs, plan.position(), plan.outputs, plan.sums(), parts}, dw, o_all,
                             i_all, 0, o_all, i, end * plan.kRows);
}

// One position's rows of lanes from i_begin to i_end, columns [begin, end) of kBlockColumns: c += v d, summed over
// `depth` rows of v [lanes of inputs][depth][lane] and of d [columns][depth][kBlockColumns]. Some rows at a time, for
// the second-level cache.
inline void multiply_gradient(const float* v, const float* d, int64_t depth, float* c_all, int64_t c_row,
                              int64_t i_begin, int64_t i_end, int64_t begin, int64_t end, bool add) {
  constexpr int64_t kDepth = 128;
  for (int64_t first = 0; first < depth; first += kDepth, add = true) {
    const int64_t rows = std::min(kDepth, depth - first);
    for (int64_t column = begin; column < end; ++column) {
      const float* right = d + (column * depth + first) * kBlockColumns;
      for (int64_t i = i_begin; i < i_end; i += kLanes) {
        float* c = c_all + (i - i_begin) * c_row + (column - begin) * kBlockColumns;
        const float* left = v + i * depth + first * kLanes;
        multiply({left, 1, kLanes, right, c, c_row, rows, add, left + kLanes * depth, kLanes * rows}, kLanes);
      }
    }
  }
}

// Both images of one position in the transform domain, and how many tiles they have there.
struct GradientOperands {
  const float *v, *d;
  int64_t depth;
};

// Where one group is all there is: unit of kBlock x kBlock channels of the weight gradient, through products and
// transform back, its sums in the second-level cache.
template <typename Transform, typename Operands>
void gradient_unit(const WinogradGradientPlan& plan, int64_t unit, float* dw, int64_t o_all, int64_t i_all,
                   const Operands& operands) {
  constexpr int64_t kBlock = WinogradGradientPlan::kBlock, kPosition = kBlock * kBlock + kSkew;
  float* c = workspace(kWinogradPositions * kPosition);
  const int64_t i = unit / plan.blocks(plan.outputs) * kBlock, i_end = std::min(i + kBlock, plan.inputs);
  const int64_t o = unit % plan.blocks(plan.outputs) * kBlock, o_end = std::min(o + kBlock, plan.outputs);
  for (int k = 0; k < kWinogradPositions; ++k) {
    const GradientOperands at = operands(k);
    multiply_gradient(at.v, at.d, at.depth, c + k * kPosition, kBlock, i, i_end, o / kBlockColumns,
                      o_end / kBlockColumns, false);
  }
  unpack_gradient<Transform>({c, kPosition, kBlock, 0, 1}, dw, o_all, i_all, o, o_end, i, i_end);
}

}  // namespace gankern::cpu::GANKERN_SIMD
