// upsample_add: parameters. The result of upfirdn2d, plus images of any dtype and strides.
#pragma once

#include "upfirdn2d.h"

namespace gankern {

struct UpsampleAddParams {
  UpFirDn2dParams resampling;
  DType dtype;    // of the summand
  const void* y;  // [n, c, out_h, out_w], strides in elements below
  int64_t stride_n, stride_c, stride_h, stride_w;
};

}  // namespace gankern
