// What every binding needs of torch's stable ABI (torch 2.11 and later): types, layouts, errors, and running a kernel.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/macros/Macros.h>
#include <torch/headeronly/util/Exception.h>

#include <string>
#include <vector>

#include "../math/numeric.h"
#include "parallel_for.h"

#ifdef USE_CUDA
#include <cuda_runtime_api.h>
#include <torch/csrc/stable/accelerator.h>
#define GANKERN_DEVICE CUDA
#else
#define GANKERN_DEVICE CPU
#endif

namespace gankern::bind {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline DType dtype_of(const Tensor& t, const char* op, const char* argument) {
  switch (t.scalar_type()) {
    case ScalarType::Double:
      return DType::f64;
    case ScalarType::Float:
      return DType::f32;
    case ScalarType::BFloat16:
      return DType::bf16;
    case ScalarType::Half:
      return DType::f16;
    default:
      STD_TORCH_CHECK(false, "gankern.", op, ": ", argument,
                      " must be float64, float32, bfloat16 or float16, got another dtype");
  }
  return DType::f32;
}

inline bool same_strides(const Tensor& a, const Tensor& b) {
  for (int64_t d = 0; d < a.dim(); ++d) {
    if (a.size(d) != 1 && a.stride(d) != b.stride(d)) return false;
  }
  return true;
}

// t in the memory layout of `like`: t itself, or a copy.
inline Tensor laid_out_as(const Tensor& t, const Tensor& like) {
  if (same_strides(t, like)) return t;
  Tensor copy = torch::stable::empty_like(like);
  torch::stable::copy_(copy, t);
  return copy;
}

// Whether channels are neighbours in memory, and pixels at least C apart: the rule of memory_format in
// gankern/library.py. False for what is no batch of images, so that it may be asked before that is checked.
inline bool is_channels_last(const Tensor& x) {
  return x.dim() == 4 && x.size(1) > 1 && x.stride(1) == 1 && x.stride(3) >= x.size(1);
}

inline MemoryFormat format_of(bool channels_last) {
  return channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous;
}

inline MemoryFormat format_of(const Tensor& x) {
  return format_of(is_channels_last(x));
}

// Dense memory of any permutation as [outer, channels, inner]: what varies slower and faster than `dim`.
struct Split {
  int64_t outer = 1, channels = 1, inner = 1;

  Split(const Tensor& t, int64_t dim) {
    channels = t.size(dim);
    for (int64_t d = 0; d < t.dim(); ++d) {
      if (d == dim || t.size(d) == 1) continue;
      (t.stride(d) > t.stride(dim) ? outer : inner) *= t.size(d);
    }
    if (channels == 1) {  // its stride says nothing
      outer *= inner;
      inner = 1;
    }
  }
};

#ifdef USE_CUDA
inline cudaStream_t current_stream(const Tensor& t) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}
#endif

}  // namespace gankern::bind
