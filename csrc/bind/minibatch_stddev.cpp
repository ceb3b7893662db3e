// minibatch_stddev: Tensor -> parameters, for the CPU. The GPU's kernels are in Triton.
#include "tensor.h"
#ifndef USE_CUDA
#include <algorithm>
#include <tuple>

#include "../cpu/minibatch_stddev.h"

namespace gankern::bind {

namespace {

Tensor image(const Tensor& like, int64_t channels, MemoryFormat format) {
  return torch::stable::empty({like.size(0), channels, like.size(2), like.size(3)}, like.scalar_type(), std::nullopt,
                              like.device(), std::nullopt, format);
}

MinibatchStddevParams parameters(const char* op, const Tensor& x, int64_t group_size, int64_t num_channels,
                                 bool contiguous, bool unbiased, bool channels_last) {
  STD_TORCH_CHECK(x.dim() == 4, "gankern.", op, ": x must have 4 dimensions, got ", x.dim());
  STD_TORCH_CHECK(group_size > 0 && x.size(0) % group_size == 0, "gankern.", op,
                  ": group_size must divide N = ", x.size(0), ", got ", group_size);
  STD_TORCH_CHECK(num_channels > 0 && x.size(1) > 0 && x.size(1) % num_channels == 0, "gankern.", op,
                  ": num_channels must divide C = ", x.size(1), ", got ", num_channels);
  MinibatchStddevParams p{};
  p.dtype = dtype_of(x, op, "x");
  const int64_t c = x.size(1);
  p.groups = x.size(0) / group_size, p.members = group_size, p.channels = num_channels;
  p.pixels = x.size(2) * x.size(3);
  p.outer = channels_last ? p.pixels : 1;
  p.inner = c / num_channels * (channels_last ? 1 : p.pixels);
  p.row = channels_last ? c + num_channels : 0;
  p.appended = channels_last ? c : c * p.pixels;
  p.appended_channel = channels_last ? 1 : p.pixels;
  p.appended_pixel = channels_last ? c + num_channels : 1;
  p.contiguous = contiguous;
  p.divisor = double(unbiased ? std::max<int64_t>(group_size - 1, 1) : group_size);
  return p;
}

void check_dy(const char* op, const Tensor& dy, const Tensor& x, int64_t num_channels) {
  STD_TORCH_CHECK(dy.dim() == 4 && dy.size(0) == x.size(0) && dy.size(1) == x.size(1) + num_channels &&
                      dy.size(2) == x.size(2) && dy.size(3) == x.size(3),
                  "gankern.", op, ": dy must have shape [N, C + F, H, W]");
  STD_TORCH_CHECK(dy.scalar_type() == x.scalar_type(), "gankern.", op, ": dy must be of the dtype of x");
}

template <typename Body>
void for_units(const MinibatchStddevParams& p, const Body& body) {
  const int64_t units = p.groups * cpu::stddev_chunks(p);
  const int64_t elements = std::min(p.size(), cpu::kStddevChunk) * p.members;  // of a unit
  parallel_for(0, units, 1 + 16384 / elements, body);
}

// statistic[group][f], from the parts that the units left.
std::vector<double> total(const MinibatchStddevParams& p, const std::vector<double>& partial, double scale) {
  const int64_t chunks = cpu::stddev_chunks(p);
  std::vector<double> statistic(p.groups * p.channels, 0.0);
  for (int64_t i = 0; i < int64_t(partial.size()); ++i) {
    statistic[i / (chunks * p.channels) * p.channels + i % p.channels] += partial[i] * scale;
  }
  return statistic;
}

void append(const MinibatchStddevParams& p, const std::vector<double>& statistic) {
  using namespace cpu;
  const int64_t grain = 1 + 32768 / (p.channels * p.pixels);
  parallel_for(0, p.groups * p.members, grain, [&](int64_t begin, int64_t end) {
    GANKERN_CALL_BEST(minibatch_stddev_append, p, statistic.data(), begin, end);
  });
}

// The gradient of each deviation, from that of the appended channels.
std::vector<double> gathered(const MinibatchStddevParams& p) {
  using namespace cpu;
  std::vector<double> statistic(p.groups * p.channels);
  const int64_t grain = 1 + 32768 / (p.channels * p.pixels * p.members);
  parallel_for(0, p.groups, grain, [&](int64_t begin, int64_t end) {
    GANKERN_CALL_BEST(minibatch_stddev_gather, p, statistic.data(), begin, end);
  });
  for (double& value : statistic) value /= p.count();
  return statistic;
}

}  // namespace

Tensor minibatch_stddev(const Tensor x_any, int64_t group_size, int64_t num_channels, bool contiguous, bool unbiased) {
  const MemoryFormat format = format_of(x_any);
  MinibatchStddevParams p = parameters("minibatch_stddev", x_any, group_size, num_channels, contiguous, unbiased,
                                       format == MemoryFormat::ChannelsLast);
  const Tensor x = torch::stable::contiguous(x_any, format);
  Tensor y = image(x, x.size(1) + num_channels, format);
  if (y.numel() == 0) return y;
  p.x = x.const_data_ptr();
  p.y = y.mutable_data_ptr();
  using namespace cpu;
  std::vector<double> partial(p.groups * stddev_chunks(p) * p.channels);
  for_units(p, [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(minibatch_stddev, p, partial.data(), begin, end); });
  append(p, total(p, partial, 1 / p.count()));
  return y;
}

Tensor minibatch_stddev_backward(const Tensor dy_any, const Tensor x_any, int64_t group_size, int64_t num_channels,
                                 bool contiguous, bool unbiased) {
  const MemoryFormat format = format_of(x_any);
  MinibatchStddevParams p = parameters("minibatch_stddev_backward", x_any, group_size, num_channels, contiguous,
                                       unbiased, format == MemoryFormat::ChannelsLast);
  check_dy("minibatch_stddev_backward", dy_any, x_any, num_channels);
  const Tensor x = torch::stable::contiguous(x_any, format), dy = torch::stable::contiguous(dy_any, format);
  Tensor dx = image(x, x.size(1), format);
  if (dx.numel() == 0) return dx;
  p.x = x.const_data_ptr();
  p.dy = dy.const_data_ptr();
  p.dx = dx.mutable_data_ptr();
  using namespace cpu;
  const std::vector<double> gradient = gathered(p);
  for_units(p, [&](int64_t begin, int64_t end) {
    GANKERN_CALL_BEST(minibatch_stddev_backward, p, gradient.data(), begin, end);
  });
  return dx;
}

std::tuple<Tensor, Tensor> minibatch_stddev_backward_backward(const Tensor ddx_any, const Tensor dy_any,
                                                              const Tensor x_any, int64_t group_size,
                                                              int64_t num_channels, bool contiguous, bool unbiased) {
  const MemoryFormat format = format_of(x_any);
  MinibatchStddevParams p = parameters("minibatch_stddev_backward_backward", x_any, group_size, num_channels,
                                       contiguous, unbiased, format == MemoryFormat::ChannelsLast);
  check_dy("minibatch_stddev_backward_backward", dy_any, x_any, num_channels);
  STD_TORCH_CHECK(ddx_any.scalar_type() == x_any.scalar_type() && ddx_any.sizes().equals(x_any.sizes()),
                  "gankern.minibatch_stddev_backward_backward: ddx must have the shape and the dtype of x");
  const Tensor x = torch::stable::contiguous(x_any, format), dy = torch::stable::contiguous(dy_any, format);
  const Tensor ddx = torch::stable::contiguous(ddx_any, format);
  Tensor grad_dy = image(x, x.size(1) + num_channels, format), grad_x = image(x, x.size(1), format);
  if (grad_dy.numel() == 0) return {grad_dy, grad_x};
  p.x = x.const_data_ptr();
  p.dy = dy.const_data_ptr();
  p.ddx = ddx.const_data_ptr();
  p.y = grad_dy.mutable_data_ptr();
  p.dx = grad_x.mutable_data_ptr();
  using namespace cpu;
  const std::vector<double> gradient = gathered(p);
  std::vector<double> partial(p.groups * stddev_chunks(p) * p.channels);
  for_units(p, [&](int64_t begin, int64_t end) {
    GANKERN_CALL_BEST(minibatch_stddev_backward_backward, p, gradient.data(), partial.data(), begin, end);
  });
  append(p, total(p, partial, 1 / p.count()));
  return {grad_dy, grad_x};
}

STABLE_TORCH_LIBRARY_IMPL(gankern, CPU, m) {
  m.impl("minibatch_stddev", TORCH_BOX(&minibatch_stddev));
  m.impl("minibatch_stddev_backward", TORCH_BOX(&minibatch_stddev_backward));
  m.impl("minibatch_stddev_backward_backward", TORCH_BOX(&minibatch_stddev_backward_backward));
}

}  // namespace gankern::bind
#endif
