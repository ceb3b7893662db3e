// filtered_lrelu: Tensor -> parameters, for the CPU.
#ifndef USE_CUDA

#include "../cpu/filtered_lrelu.h"

#include <optional>
#include <tuple>

#include "tensor.h"

namespace gankern::bind {

namespace {

using torch::headeronly::MemoryFormat;

// The kernel works on planes; y goes back to the layout of x. The rule of _like in gankern/ops/filtered_lrelu.py.
Tensor laid_out_like(const Tensor& y, const Tensor& x) {
  const bool channels_last = x.size(1) > 1 && x.stride(1) == 1 && x.stride(3) >= x.size(1);
  return channels_last ? torch::stable::contiguous(y, MemoryFormat::ChannelsLast) : y;
}

FusedFilter filter_of(const char* op, const char* argument, const Tensor& f) {
  STD_TORCH_CHECK(f.scalar_type() == ScalarType::Float && (f.dim() == 1 || f.dim() == 2), "gankern.", op, ": ",
                  argument, " must be float32 with shape [taps] or [taps_y, taps_x]");
  const int64_t x = f.size(f.dim() - 1), y = f.size(0);
  STD_TORCH_CHECK(x >= 1 && y >= 1 && x <= kMaxFusedTaps && y <= kMaxFusedTaps, "gankern.", op, ": ", argument,
                  " must have 1 to ", kMaxFusedTaps, " taps an axis, got [", y, ", ", x, "]");
  return {static_cast<const float*>(f.const_data_ptr()), f.dim() == 1, int(x), int(y)};
}

FilteredLreluParams parameters(const char* op, const Tensor& x, const Tensor& fu, const Tensor& fd, int64_t up,
                               int64_t down, double gain, double slope, bool flip) {
  STD_TORCH_CHECK(x.dim() == 4, "gankern.", op, ": x must have 4 dimensions [N, C, H, W], got ", x.dim());
  STD_TORCH_CHECK(up >= 1 && up <= kMaxFusedScale && down >= 1 && down <= kMaxFusedScale, "gankern.", op,
                  ": up and down must be in [1, ", kMaxFusedScale, "], got ", up, " and ", down);
  FilteredLreluParams p{};
  p.dtype = dtype_of(x, op, "x");
  p.x = x.const_data_ptr();
  p.fu = filter_of(op, "fu", fu), p.fd = filter_of(op, "fd", fd);
  p.flip = flip;
  p.up = int(up), p.down = int(down);
  p.planes = x.size(0) * x.size(1), p.channels = x.size(1), p.in_h = x.size(2), p.in_w = x.size(3);
  p.gain = gain, p.slope = slope, p.clamp = -1;
  return p;
}

void run(const FilteredLreluParams& p) {
  using namespace cpu;
  if (p.planes == 0) return;
  const int64_t work = p.mid_h * p.mid_w + 1;
  parallel_for(0, p.planes, 1 + 8192 / work,
               [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(filtered_lrelu, p, begin, end); });
}

}  // namespace

std::tuple<Tensor, Tensor> filtered_lrelu(const Tensor x_any, const Tensor fu_any, const Tensor fd_any,
                                          const std::optional<Tensor> b_any, int64_t up, int64_t down, int64_t px0,
                                          int64_t px1, int64_t py0, int64_t py1, double gain, double slope,
                                          std::optional<double> clamp, bool flip_filter, bool keep) {
  const char* op = "filtered_lrelu";
  const Tensor x = torch::stable::contiguous(x_any), fu = torch::stable::contiguous(fu_any),
               fd = torch::stable::contiguous(fd_any);
  FilteredLreluParams p = parameters(op, x, fu, fd, up, down, gain * double(up * up), slope, flip_filter);
  p.clamp = clamp.value_or(-1);
  p.ux = px0, p.uy = py0;
  p.mid_w = p.in_w * up + px0 + px1 - p.fu.taps_x + 1;
  p.mid_h = p.in_h * up + py0 + py1 - p.fu.taps_y + 1;
  STD_TORCH_CHECK(p.mid_w >= p.fd.taps_x && p.mid_h >= p.fd.taps_y,
                  "gankern.filtered_lrelu: fd must be no larger than the upsampled image [", p.mid_h, ", ", p.mid_w,
                  "]");
  p.out_w = (p.mid_w - p.fd.taps_x) / down + 1, p.out_h = (p.mid_h - p.fd.taps_y) / down + 1;
  const auto total = p.dtype == DType::f64 ? ScalarType::Double : ScalarType::Float;
  std::optional<Tensor> b;
  if (b_any.has_value()) {
    STD_TORCH_CHECK(b_any->dim() == 1 && b_any->size(0) == p.channels && b_any->scalar_type() == total,
                    "gankern.filtered_lrelu: b must have shape [C] = [", p.channels, "] and the dtype of the sums");
    b = torch::stable::contiguous(*b_any);
    p.b = b->const_data_ptr();
  }
  Tensor y = torch::stable::new_empty(x, {x.size(0), x.size(1), p.out_h, p.out_w});
  Tensor signs = keep ? torch::stable::new_empty(x, {x.size(0), x.size(1), p.mid_h, p.mid_w}, ScalarType::Byte)
                      : torch::stable::new_empty(x, {0}, ScalarType::Byte);
  p.y = y.mutable_data_ptr();
  p.signs = keep ? static_cast<uint8_t*>(signs.mutable_data_ptr()) : nullptr;
  run(p);
  return {laid_out_like(y, x_any), signs};
}

std::tuple<Tensor, Tensor> filtered_lrelu_backward(const Tensor x_any, const Tensor signs_any, const Tensor fu_any,
                                                   const Tensor fd_any, int64_t up, int64_t down, int64_t ux,
                                                   int64_t uy, int64_t dx, int64_t dy, int64_t out_h, int64_t out_w,
                                                   double gain, double slope, bool flip_filter, bool sums) {
  const char* op = "filtered_lrelu_backward";
  const Tensor x = torch::stable::contiguous(x_any), fu = torch::stable::contiguous(fu_any),
               fd = torch::stable::contiguous(fd_any), signs = torch::stable::contiguous(signs_any);
  FilteredLreluParams p = parameters(op, x, fu, fd, up, down, gain, slope, flip_filter);
  STD_TORCH_CHECK(signs.dim() == 4 && signs.scalar_type() == ScalarType::Byte && signs.size(0) == x.size(0) &&
                      signs.size(1) == x.size(1),
                  "gankern.filtered_lrelu_backward: signs must be those that filtered_lrelu kept for x");
  STD_TORCH_CHECK(out_h >= 1 && out_w >= 1, "gankern.filtered_lrelu_backward: the result must have a pixel");
  p.mid_h = signs.size(2), p.mid_w = signs.size(3);
  p.ux = ux, p.uy = uy, p.dx = dx, p.dy = dy;
  p.out_h = out_h, p.out_w = out_w;
  Tensor y = torch::stable::new_empty(x, {x.size(0), x.size(1), out_h, out_w});
  Tensor totals = torch::stable::new_empty(x, {sums ? p.planes : 0}, ScalarType::Double);
  p.y = y.mutable_data_ptr();
  p.sums = sums ? static_cast<double*>(totals.mutable_data_ptr()) : nullptr;
  p.signs = const_cast<uint8_t*>(static_cast<const uint8_t*>(signs.const_data_ptr()));
  p.reads_signs = true;
  run(p);
  return {laid_out_like(y, x_any), totals};
}

STABLE_TORCH_LIBRARY_IMPL(gankern, GANKERN_DEVICE, m) {
  m.impl("filtered_lrelu", TORCH_BOX(&filtered_lrelu));
  m.impl("filtered_lrelu_backward", TORCH_BOX(&filtered_lrelu_backward));
}

}  // namespace gankern::bind

#endif
