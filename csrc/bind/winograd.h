// What the bindings of Winograd's convolutions share: dense images, small operands and shares of work.
#pragma once

#include <optional>

#include "../cpu/kept_memory.h"
#include "../math/winograd.h"
#include "tensor.h"

namespace gankern::bind {

inline Tensor dense(const Tensor& x, MemoryFormat format) {
  STD_TORCH_CHECK(x.dim() == 4, "gankern.winograd: images must have 4 dimensions [N, C, H, W], got ", x.dim());
  STD_TORCH_CHECK(x.scalar_type() != ScalarType::Double, "gankern.winograd: images must not be float64");
  return torch::stable::contiguous(x, format);
}

inline WinogradImages images(const Tensor& x, MemoryFormat format) {
  return {dtype_of(x, "winograd", "x"),
          const_cast<void*>(x.const_data_ptr()),
          x.size(0),
          x.size(1),
          x.size(2),
          x.size(3),
          format == MemoryFormat::ChannelsLast};
}

// A small float32 tensor, dense, with so many elements.
inline std::optional<Tensor> small(const std::optional<Tensor>& t, const char* name, int64_t elements) {
  if (!t.has_value()) return t;
  STD_TORCH_CHECK(t->numel() == elements, "gankern.winograd: ", name, " must have ", elements, " elements, got ",
                  t->numel());
  return torch::stable::contiguous(torch::stable::to(*t, ScalarType::Float));
}

inline const float* pointer(const std::optional<Tensor>& t) {
  return t.has_value() ? static_cast<const float*>(t->const_data_ptr()) : nullptr;
}

// Memory of the calling thread, for what one call needs and no other.
inline float* kept_memory(int64_t floats) {
  static thread_local cpu::KeptMemory memory;
  return memory.of(floats);
}

inline int64_t columns_of(int64_t o) {
  return (o + kWinogradColumns - 1) / kWinogradColumns;
}

// An upper bound, whatever the width of a register.
inline int64_t floats_of_weights(const WinogradWeights& w) {
  return kWinogradPositions * columns_of(w.o) * kWinogradColumns * (w.i + kWinogradSkew / 8);
}

// Weights [o, i, 3, 3] or, of a transposed convolution, [i, o, 3, 3] for `channels` inputs; `dense` keeps their memory.
inline WinogradWeights weights(const Tensor& w, bool transposed, bool rotated, int64_t channels, Tensor& dense) {
  STD_TORCH_CHECK(
      w.dim() == 4 && w.size(2) == 3 && w.size(3) == 3 && w.size(transposed ? 0 : 1) == channels,
      "gankern.winograd: w must have shape [O, I, 3, 3], or [I, O, 3, 3] if transposed, for I = ", channels);
  dense = w.scalar_type() == ScalarType::Double ? torch::stable::to(w, ScalarType::Float) : w;
  const auto one_is = [&](int64_t stride) { return dense.stride(0) == stride || dense.stride(1) == stride; };
  const bool even = dense.stride(2) == 3 * dense.stride(3), neighbours = dense.stride(3) == 1;
  if (!even || !one_is(neighbours ? 9 : 1)) dense = torch::stable::contiguous(dense);
  const int o = transposed ? 1 : 0, i = 1 - o;
  return {dtype_of(dense, "winograd", "w"),
          dense.const_data_ptr(),
          dense.size(o),
          dense.size(i),
          dense.stride(o),
          dense.stride(i),
          dense.stride(3),
          rotated};
}

// Into how many parts of its columns a block of tiles is split, so that all threads have as much to do.
inline int64_t equal_shares(int64_t blocks, int64_t columns) {
  const int64_t threads = torch::stable::get_num_threads();
  int64_t splits = 1;
  while (splits < columns && blocks * splits % threads != 0 && blocks * splits < 4 * threads) ++splits;
  return splits;
}

}  // namespace gankern::bind
