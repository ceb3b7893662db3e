// upfirdn2d: the checks and parameters of a call, for every op that resamples.
#pragma once

#include "../math/upfirdn2d.h"
#include "tensor.h"

namespace gankern::bind {

// A pixel's channels side by side and pixels side by side; rows, channels and images may lie anywhere.
inline bool has_dense_rows(const Tensor& x, bool channels_last) {
  if (channels_last) return x.size(3) == 1 || x.stride(3) == x.size(1);
  return x.size(3) == 1 || x.stride(3) == 1;
}

inline int64_t output_size(int64_t size, int64_t up, int64_t down, int64_t before, int64_t after, int64_t taps) {
  return (size * up + before + after - taps) / down + 1;
}

// The parameters of a call, and the tensors that they point to.
struct UpFirDn2dCall {
  Tensor x, f, y;
  UpFirDn2dParams p;
};

inline UpFirDn2dCall upfirdn2d_call(const Tensor& x_any, const Tensor& f_any, int64_t up_x, int64_t up_y,
                                    int64_t down_x, int64_t down_y, int64_t px0, int64_t px1, int64_t py0, int64_t py1,
                                    bool flip_filter, double gain) {
  STD_TORCH_CHECK(x_any.dim() == 4, "gankern.upfirdn2d: x must have 4 dimensions [N, C, H, W], got ", x_any.dim());
  STD_TORCH_CHECK(f_any.scalar_type() == ScalarType::Float && (f_any.dim() == 1 || f_any.dim() == 2),
                  "gankern.upfirdn2d: f must be float32 with shape [taps] or [taps_y, taps_x]");
  const Tensor f = torch::stable::contiguous(f_any);
  UpFirDn2dParams p{};
  p.separable = f.dim() == 1;
  p.taps_x = int(f.size(f.dim() - 1)), p.taps_y = int(f.size(0));
  STD_TORCH_CHECK(p.taps_x >= 1 && p.taps_y >= 1 && p.taps_x <= kMaxTaps && p.taps_y <= kMaxTaps,
                  "gankern.upfirdn2d: f must have 1 to ", kMaxTaps, " taps an axis, got [", p.taps_y, ", ", p.taps_x,
                  "]");
  for (int64_t scale : {up_x, up_y, down_x, down_y}) {
    STD_TORCH_CHECK(scale >= 1 && scale <= kMaxScale, "gankern.upfirdn2d: up and down must be in [1, ", kMaxScale,
                    "], got ", scale);
  }
  p.out_h = output_size(x_any.size(2), up_y, down_y, py0, py1, p.taps_y);
  p.out_w = output_size(x_any.size(3), up_x, down_x, px0, px1, p.taps_x);
  STD_TORCH_CHECK(x_any.size(2) * up_y + py0 + py1 >= p.taps_y && x_any.size(3) * up_x + px0 + px1 >= p.taps_x,
                  "gankern.upfirdn2d: f must be no larger than the upsampled and padded image, got [", p.taps_y, ", ",
                  p.taps_x, "]");
  p.channels_last = is_channels_last(x_any);
  const MemoryFormat format = format_of(p.channels_last);
  const Tensor x = has_dense_rows(x_any, p.channels_last) ? x_any : torch::stable::contiguous(x_any, format);
  Tensor y = torch::stable::empty({x.size(0), x.size(1), p.out_h, p.out_w}, x.scalar_type(), std::nullopt, x.device(),
                                  std::nullopt, format);
  p.dtype = dtype_of(x, "upfirdn2d", "x");
  p.x = x.const_data_ptr();
  p.f = static_cast<const float*>(f.const_data_ptr());
  p.y = y.mutable_data_ptr();
  p.n = x.size(0), p.c = x.size(1), p.in_h = x.size(2), p.in_w = x.size(3);
  p.stride_n = x.stride(0), p.stride_c = x.stride(1), p.stride_h = x.stride(2), p.stride_w = x.stride(3);
  p.up_x = int(up_x), p.up_y = int(up_y), p.down_x = int(down_x), p.down_y = int(down_y);
  p.pad_x = px0, p.pad_y = py0;
  p.flip = flip_filter;
  p.gain = gain;
  return {x, f, y, p};
}

}  // namespace gankern::bind
