// Memory of the transform domain, and its distances.
#pragma once

#include <memory>
#include <new>

#include "vector.h"

namespace gankern::cpu::GANKERN_SIMD {

// Distances of exact powers of two would map all 36 positions to the same lines of the cache.
constexpr int64_t kSkew = 16;

inline int64_t rounded_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Memory of this thread, kept for its next call: fresh pages cost more than the work on them.
inline float* workspace(int64_t floats) {
  constexpr std::align_val_t kLine{64};
  struct Free {
    void operator()(float* p) const { ::operator delete(p, kLine); }
  };
  static thread_local std::unique_ptr<float, Free> memory;
  static thread_local int64_t size = 0;
  if (size < floats) {
    size = 0;
    memory.reset();
    memory.reset(static_cast<float*>(::operator new(floats * sizeof(float), kLine)));
    size = floats;
  }
  return memory.get();
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
