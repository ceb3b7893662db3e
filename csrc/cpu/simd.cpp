#include "simd.h"

#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace gankern::cpu {

namespace {

Simd supported() {
#ifdef GANKERN_X86
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return Simd::avx512;
  }
  if (avx2) return Simd::avx2;
#endif
  return Simd::baseline;
}

Simd chosen() {
  const Simd best = supported();
  const char* asked = std::getenv("GANKERN_SIMD");
  if (asked == nullptr) return best;
  for (Simd level : {Simd::baseline, Simd::avx2, Simd::avx512}) {
    if (std::strcmp(asked, simd_name(level)) == 0 && level <= best) return level;
  }
  return best;
}

}  // namespace

Simd simd_level() {
  static const Simd level = chosen();
  return level;
}

const char* simd_name(Simd level) {
  return level == Simd::avx512 ? "avx512" : level == Simd::avx2 ? "avx2" : "baseline";
}

}  // namespace gankern::cpu
