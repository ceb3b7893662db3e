// bias_act on the GPU. Every launch goes to the given stream; nothing is allocated, waited for or read back, so the
// calls can be captured in a CUDA graph. Throws std::runtime_error if a launch fails.
#pragma once

#include <cuda_runtime_api.h>

#include "../math/bias_act.h"

namespace gankern::cuda {

void bias_act(const BiasActParams& p, cudaStream_t stream);

// Bytes of device memory that bias_act_backward needs for the bias gradient; 0 without one. For the current device.
size_t bias_act_backward_workspace(const BiasActBackwardParams& p);

// The bias gradient is summed in a fixed order: two runs on one device agree bit for bit.
void bias_act_backward(const BiasActBackwardParams& p, void* workspace, cudaStream_t stream);

}  // namespace gankern::cuda
