// Memory of the transform domain, and its distances.
#pragma once

#include "../math/winograd.h"
#include "kept_memory.h"
#include "vector.h"

namespace gankern::cpu::GANKERN_SIMD {

constexpr int64_t kSkew = kWinogradSkew;

inline int64_t rounded_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Memory of this thread.
inline float* workspace(int64_t floats) {
  static thread_local KeptMemory memory;
  return memory.of(floats);
}

// Calls body.template operator()<T>() for the storage type.
template <typename Body>
void for_type(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::bf16:
      return body.template operator()<bfloat16>();
    case DType::f16:
      return body.template operator()<float16>();
    default:
      return body.template operator()<float>();
  }
}

}  // namespace gankern::cpu::GANKERN_SIMD
