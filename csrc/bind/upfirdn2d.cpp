// upfirdn2d: Tensor -> parameters, for the CPU and (with USE_CUDA) for the GPU.
#include "upfirdn2d.h"

#ifdef USE_CUDA
#include "../cuda/upfirdn2d.h"
#else
#include "../cpu/upfirdn2d.h"
#endif

namespace gankern::bind {

Tensor upfirdn2d(const Tensor x_any, const Tensor f_any, int64_t up_x, int64_t up_y, int64_t down_x, int64_t down_y,
                 int64_t px0, int64_t px1, int64_t py0, int64_t py1, bool flip_filter, double gain) {
  const UpFirDn2dCall call =
      upfirdn2d_call(x_any, f_any, up_x, up_y, down_x, down_y, px0, px1, py0, py1, flip_filter, gain);
  const UpFirDn2dParams& p = call.p;
  if (call.y.numel() == 0) return call.y;
#ifdef USE_CUDA
  const torch::stable::accelerator::DeviceGuard guard(call.x.get_device_index());
  cuda::upfirdn2d(p, current_stream(call.x));
#else
  using namespace cpu;
  const int64_t rows = call.y.numel() / (p.out_w * (p.channels_last ? p.c : 1));
  const int64_t grain = 1 + 16384 * rows / call.y.numel();
  parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(upfirdn2d, p, begin, end); });
#endif
  return call.y;
}

STABLE_TORCH_LIBRARY_IMPL(gankern, GANKERN_DEVICE, m) {
  m.impl("upfirdn2d", TORCH_BOX(&upfirdn2d));
}

}  // namespace gankern::bind
