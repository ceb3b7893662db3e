#include "upfirdn2d.h"

#include "upfirdn2d_blocks.h"
#include "upfirdn2d_tiles.h"

namespace gankern::cpu::GANKERN_SIMD {

namespace {

template <typename T>
void run(const UpFirDn2dParams& p, int64_t begin, int64_t end) {
  const Separated<arithmetic_t<T>> filter(p);
  if (!run_blocks<T>(p, filter, begin, end)) Tiles<T>(p, filter).run(begin, end);
}

}  // namespace

void upfirdn2d(const UpFirDn2dParams& p, int64_t begin, int64_t end) {
  switch (p.dtype) {
    case DType::f64:
      return run<double>(p, begin, end);
    case DType::f32:
      return run<float>(p, begin, end);
    case DType::bf16:
      return run<bfloat16>(p, begin, end);
    case DType::f16:
      return run<float16>(p, begin, end);
  }
}

}  // namespace gankern::cpu::GANKERN_SIMD
