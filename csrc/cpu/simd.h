// Run-time choice of the instruction set. Every csrc/cpu/<op>.cpp is compiled once per level, each time with
// -DGANKERN_SIMD=<level> and that level's flags, into a namespace of that name; the binding calls the best one.
#pragma once

#if defined(__x86_64__)
#define GANKERN_X86 1
#endif

namespace gankern::cpu {

enum class Simd { baseline, avx2, avx512 };

// What this processor can run, or less if the environment variable GANKERN_SIMD says so.
Simd simd_level();

const char* simd_name(Simd level);

}  // namespace gankern::cpu

#ifdef GANKERN_X86
#define GANKERN_DECLARE_PER_LEVEL(...) \
  namespace gankern::cpu::baseline {   \
  __VA_ARGS__;                         \
  }                                    \
  namespace gankern::cpu::avx2 {       \
  __VA_ARGS__;                         \
  }                                    \
  namespace gankern::cpu::avx512 {     \
  __VA_ARGS__;                         \
  }
#define GANKERN_CALL_BEST(function, ...)                             \
  (simd_level() == Simd::avx512 ? cpu::avx512::function(__VA_ARGS__) \
   : simd_level() == Simd::avx2 ? cpu::avx2::function(__VA_ARGS__)   \
                                : cpu::baseline::function(__VA_ARGS__))
#else
#define GANKERN_DECLARE_PER_LEVEL(...) \
  namespace gankern::cpu::baseline {   \
  __VA_ARGS__;                         \
  }
#define GANKERN_CALL_BEST(function, ...) cpu::baseline::function(__VA_ARGS__)
#endif
