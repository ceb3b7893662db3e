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

inline int64_t floats_of_weights(int64_t o, int64_t i) {
  return columns_of(o) * kWinogradPositions * i * kWinogradColumns;
}

// Memory for the transformed weights of o and i channels.
inline Tensor empty_weights(const Tensor& w, int64_t o, int64_t i) {
  return torch::stable::new_empty(w, {columns_of(o), kWinogradPositions, i, kWinogradColumns}, ScalarType::Float);
}

inline float* room_for_weights(Tensor& u, int64_t o, int64_t i) {
  STD_TORCH_CHECK(u.scalar_type() == ScalarType::Float && u.is_contiguous() && u.numel() == floats_of_weights(o, i),
                  "gankern.winograd_weight: u must be dense float32 of ", floats_of_weights(o, i), " numbers");
  return static_cast<float*>(u.mutable_data_ptr());
}

// Into how many parts of its columns a block of tiles is split, so that all threads have as much to do.
inline int64_t equal_shares(int64_t blocks, int64_t columns) {
  const int64_t threads = torch::stable::get_num_threads();
  int64_t splits = 1;
  while (splits < columns && blocks * splits % threads != 0 && blocks * splits < 4 * threads) ++splits;
  return splits;
}

}  // namespace gankern::bind
