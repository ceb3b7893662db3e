// bias_act: Tensor -> parameters, for the CPU and (with USE_CUDA) for the GPU.
#include "../math/bias_act.h"

#include <optional>
#include <tuple>

#include "tensor.h"
#ifdef USE_CUDA
#include "../cuda/bias_act.h"
#else
#include "../cpu/bias_act.h"
#endif

namespace gankern::bind {

namespace {

Split split_without_bias(const Tensor& t) {
  Split all(t, 0);
  all.outer *= all.channels * all.inner;
  all.channels = all.inner = 1;
  return all;
}

Activation parse(const char* op, const std::string& name) {
  const Activation act = activation_from(name);
  STD_TORCH_CHECK(act != Activation::unknown, "gankern.", op, ": act must be the name of an activation, got '", name,
                  "'");
  return act;
}

// The op may be called past gankern's Python, so what a kernel would read out of bounds is checked here too.
std::optional<Tensor> checked_bias(const char* op, const Tensor& x, const std::optional<Tensor>& b, int64_t dim) {
  STD_TORCH_CHECK(dim >= 0 && dim < x.dim(), "gankern.", op, ": dim must be in [0, ", x.dim(), "), got ", dim);
  if (!b.has_value()) return b;
  STD_TORCH_CHECK(b->dim() == 1 && b->size(0) == x.size(dim), "gankern.", op, ": b must have shape [C] = [",
                  x.size(dim), "]");
  return torch::stable::contiguous(*b);
}

}  // namespace

Tensor bias_act(const Tensor x_any, const std::optional<Tensor> b_any, int64_t dim, const std::string act, double alpha,
                double gain, std::optional<double> clamp) {
  const std::optional<Tensor> b = checked_bias("bias_act", x_any, b_any, dim);
  Tensor y = torch::stable::empty_like(x_any);
  const Tensor x = laid_out_as(x_any, y);
  const Split split = b.has_value() ? Split(y, dim) : split_without_bias(y);
  BiasActParams p{};
  p.dtype = dtype_of(x, "bias_act", "x");
  p.bias_dtype = b.has_value() ? dtype_of(*b, "bias_act", "b") : p.dtype;
  p.x = x.const_data_ptr();
  p.b = b.has_value() ? b->const_data_ptr() : nullptr;
  p.y = y.mutable_data_ptr();
  p.outer = split.outer, p.channels = split.channels, p.inner = split.inner;
  p.act = parse("bias_act", act);
  p.alpha = alpha, p.gain = gain, p.clamp = clamp.value_or(-1);
  if (y.numel() == 0) return y;
#ifdef USE_CUDA
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  cuda::bias_act(p, current_stream(x));
#else
  using namespace cpu;
  parallel_for(0, y.numel(), 32768, [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(bias_act, p, begin, end); });
#endif
  return y;
}

std::tuple<Tensor, Tensor> bias_act_backward(const Tensor dy_any, const std::optional<Tensor> ref_any,
                                             const std::optional<Tensor> b_any, int64_t dim, const std::string act,
                                             double alpha, double gain, std::optional<double> clamp,
                                             bool bias_gradient) {
  const std::optional<Tensor> b = checked_bias("bias_act_backward", dy_any, b_any, dim);
  Tensor dx = torch::stable::empty_like(ref_any.has_value() ? *ref_any : dy_any);
  const Tensor dy = laid_out_as(dy_any, dx);
  const std::optional<Tensor> ref = ref_any.has_value() ? std::optional(laid_out_as(*ref_any, dx)) : std::nullopt;
  const Split split = b.has_value() || bias_gradient ? Split(dx, dim) : split_without_bias(dx);
  BiasActBackwardParams p{};
  p.dtype = dtype_of(dy, "bias_act_backward", "dy");
  p.bias_dtype = b.has_value() ? dtype_of(*b, "bias_act_backward", "b") : p.dtype;
  const auto accumulate = p.dtype == DType::f64 ? ScalarType::Double : ScalarType::Float;
  Tensor db = torch::stable::new_empty(dx, {bias_gradient ? dx.size(dim) : 0}, accumulate);
  p.dy = dy.const_data_ptr();
  p.ref = ref.has_value() ? ref->const_data_ptr() : nullptr;
  p.b = b.has_value() ? b->const_data_ptr() : nullptr;
  p.dx = dx.mutable_data_ptr();
  p.db = bias_gradient ? db.mutable_data_ptr() : nullptr;
  p.outer = split.outer, p.channels = split.channels, p.inner = split.inner;
  p.act = parse("bias_act_backward", act);
  p.from_input = p.act == Activation::swish || (p.act == Activation::lrelu && alpha < 0);
  p.alpha = alpha, p.gain = gain, p.clamp = clamp.value_or(-1);
  STD_TORCH_CHECK(p.ref != nullptr || dx.numel() == 0 || (p.act == Activation::linear && p.clamp < 0),
                  "gankern.bias_act_backward: ref must be given for act='", act, "', got None");
  if (dx.numel() == 0) {
    torch::stable::zero_(db);
    return {dx, db};
  }
#ifdef USE_CUDA
  const torch::stable::accelerator::DeviceGuard guard(dy.get_device_index());
  const int64_t bytes = int64_t(cuda::bias_act_backward_workspace(p));
  Tensor workspace = torch::stable::new_empty(dx, {bytes}, ScalarType::Byte);
  cuda::bias_act_backward(p, workspace.mutable_data_ptr(), current_stream(dy));
#else
  using namespace cpu;
  const BiasActUnits units(p);
  std::vector<double> partial(bias_gradient ? units.count * units.channels_per_unit : 0);
  const int64_t grain = 1 + 32768 * units.count / dx.numel();
  parallel_for(0, units.count, grain, [&](int64_t begin, int64_t end) {
    GANKERN_CALL_BEST(bias_act_backward, p, partial.data(), begin, end);
  });
  for (int64_t c = 0; bias_gradient && c < p.channels; ++c) {
    double sum = 0;
    for (int64_t i = c; i < int64_t(partial.size()); i += p.channels) sum += partial[i];
    if (p.dtype == DType::f64) {
      static_cast<double*>(p.db)[c] = sum;
    } else {
      static_cast<float*>(p.db)[c] = float(sum);
    }
  }
#endif
  return {dx, db};
}

STABLE_TORCH_LIBRARY_IMPL(gankern, GANKERN_DEVICE, m) {
  m.impl("bias_act", TORCH_BOX(&bias_act));
  m.impl("bias_act_backward", TORCH_BOX(&bias_act_backward));
}

}  // namespace gankern::bind
