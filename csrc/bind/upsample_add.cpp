// upsample_add: Tensor -> parameters, for the CPU.
#include "../math/upsample_add.h"

#ifndef USE_CUDA
#include "../cpu/upsample_add.h"
#include "upfirdn2d.h"

namespace gankern::bind {

Tensor upsample_add(const Tensor x, const Tensor y, const Tensor f, int64_t up_x, int64_t up_y, int64_t px0,
                    int64_t px1, int64_t py0, int64_t py1, bool flip_filter, double gain) {
  const UpFirDn2dCall call = upfirdn2d_call(x, f, up_x, up_y, 1, 1, px0, px1, py0, py1, flip_filter, gain);
  bool fits = y.dim() == 4;
  for (int64_t d = 0; fits && d < 4; ++d) fits = y.size(d) == call.y.size(d);
  STD_TORCH_CHECK(fits, "gankern.upsample_add: y must have the shape of the enlarged images, [", call.y.size(0), ", ",
                  call.y.size(1), ", ", call.y.size(2), ", ", call.y.size(3), "]");
  if (call.y.numel() == 0) return call.y;
  const UpsampleAddParams p{
      call.p, dtype_of(y, "upsample_add", "y"), y.const_data_ptr(), y.stride(0), y.stride(1), y.stride(2), y.stride(3)};
  const int64_t rows = call.y.numel() / (call.p.out_w * (call.p.channels_last ? call.p.c : 1));
  const int64_t grain = 1 + 16384 * rows / call.y.numel();
  using namespace cpu;
  parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(upsample_add, p, begin, end); });
  return call.y;
}

STABLE_TORCH_LIBRARY_IMPL(gankern, CPU, m) {
  m.impl("upsample_add", TORCH_BOX(&upsample_add));
}

}  // namespace gankern::bind
#endif
