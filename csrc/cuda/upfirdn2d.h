// upfirdn2d on the GPU. Every launch goes to the given stream; nothing is allocated, waited for or read back, so the
// calls can be captured in a CUDA graph. Throws std::runtime_error if a launch fails.
#pragma once

#include <cuda_runtime_api.h>

#include "../math/upfirdn2d.h"

namespace gankern::cuda {

// x may have any strides; the taps p.f are device memory.
void upfirdn2d(const UpFirDn2dParams& p, cudaStream_t stream);

}  // namespace gankern::cuda
