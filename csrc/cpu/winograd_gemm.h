// The products of Winograd's convolution: small matrices of float in the cache, one register block at a time.
#pragma once

#include <array>
#include <utility>

#include "../math/winograd.h"
#include "vector.h"

namespace gankern::cpu::GANKERN_SIMD {

// A register block has so many rows, and columns of two registers: what the register file holds beside the operands.
constexpr int kBlockRows = Vec<float>::size == 16 ? 14 : 6;
constexpr int kBlockColumns = 2 * Vec<float>::size;
constexpr int64_t kLineFloats = 16;  // in a line of the cache

// Packed weights [column of kBlockColumns output channels][position][i][output channel in the column]: distances.
inline int64_t packed_position(int64_t i) {
  return i * kBlockColumns + kWinogradSkew;
}
inline int64_t packed_column(int64_t i) {
  return kWinogradPositions * packed_position(i);
}

// Left operand [rows, depth] with any strides; right operand [depth, kBlockColumns] dense; c [rows, kBlockColumns].
// Meanwhile so many floats from `next` on are fetched into the cache, for the product that follows: between two panels
// the processor's own prefetching loses its thread.
struct Product {
  const float* a;
  int64_t a_row, a_depth;
  const float* b;
  float* c;
  int64_t c_row;
  int64_t depth;
  bool add;  // c += a b, otherwise c = a b
  const float* next;
  int64_t next_floats;
};

// Every element is summed in the order of `depth`, whatever the number of rows in the block.
template <int rows>
void multiply_block(const Product& p) {
  using V = Vec<float>;
  V low[rows], high[rows];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) low[r] = high[r] = V::fill(0);
  const float* a = p.a;
  const float* b = p.b;
  const int64_t row = p.a_row;
  const float* next = p.next;
  const float* const last = p.next + p.next_floats;
  for (int64_t k = 0; k < p.depth; ++k, a += p.a_depth, b += kBlockColumns) {
    const V b0 = V::load(b), b1 = V::load(b + V::size);
    __builtin_prefetch(next);
    next += next < last ? kLineFloats : 0;
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const V left = V::fill(a[r * row]);
      low[r] = low[r].plus(left, b0);
      high[r] = high[r].plus(left, b1);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
    float* c = p.c + r * p.c_row;
    if (p.add) {
      low[r].v += V::load(c).v;
      high[r].v += V::load(c + V::size).v;
    }
    low[r].store(c);
    high[r].store(c + V::size);
  }
}

// All rows, in blocks of nearly equal height: a block of few rows would wait for its own sums.
inline void multiply(Product p, int64_t rows) {
  if (rows == 0) return;
  using Block = void (*)(const Product&);
  static constexpr auto blocks = []<int... i>(std::integer_sequence<int, i...>) {
    return std::array<Block, kBlockRows>{multiply_block<i + 1>...};
  }(std::make_integer_sequence<int, kBlockRows>());
  int64_t left = (rows + kBlockRows - 1) / kBlockRows;
  p.next_floats = (p.next_floats / left + kLineFloats - 1) / kLineFloats * kLineFloats;
  for (; left > 0; --left) {
    const int64_t height = (rows + left - 1) / left;
    blocks[height - 1](p);
    rows -= height;
    p.a += height * p.a_row;
    p.c += height * p.c_row;
    p.next += p.next_floats;
  }
}

}  // namespace gankern::cpu::GANKERN_SIMD
