// styled_bias_act: Tensor -> parameters, for the CPU.
#ifndef USE_CUDA

#include "../cpu/styled_bias_act.h"

#include <optional>
#include <tuple>

#include "tensor.h"

namespace gankern::bind {

namespace {

using Optional = std::optional<Tensor>;

ScalarType arithmetic_type(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// An uninitialised tensor of the shape and dtype of x, channels_last if x is.
Tensor empty_as(const Tensor& x, const char* op) {
  STD_TORCH_CHECK(x.dim() == 4, "gankern.", op, ": x must have 4 dimensions [N, C, H, W], got ", x.dim());
  return torch::stable::empty({x.size(0), x.size(1), x.size(2), x.size(3)}, x.scalar_type(), std::nullopt, x.device(),
                              std::nullopt, format_of(x));
}

// Of dense memory made by empty_as. Single pixels lie like rows of channels in either format.
StyledShape shape_of(const Tensor& t, const char* op) {
  const int64_t pixels = t.size(2) * t.size(3);
  const bool last = pixels == 1 || (t.size(1) > 1 && t.stride(1) == 1);
  return {dtype_of(t, op, "x"), t.size(0), t.size(1), pixels, last};
}

// The op may be called past gankern's Python, so what a kernel would read out of bounds is checked here too. What is
// copied to be read is kept in `kept`.
class Reader {
 public:
  Reader(const char* op, const Tensor& like) : op_(op), like_(like) {}

  const void* image(const char* name, const Optional& t) {
    if (!t.has_value()) return nullptr;
    check(name, t->dim() == 4 && same_shape(*t) && t->scalar_type() == like_.scalar_type(), "the shape and dtype of x");
    return keep(laid_out_as(*t, like_));
  }

  // [N, C], [C] or []
  ChannelNumbers channels(const char* name, const Optional& t, int64_t dims, double otherwise) {
    if (!t.has_value()) return {nullptr, 0, 0, otherwise};
    const int64_t n = like_.size(0), c = like_.size(1);
    const bool fits = dims == 0 || t->size(dims - 1) == c;
    check(name, is_arithmetic(*t) && t->dim() == dims && fits && (dims < 2 || t->size(0) == n),
          "shape [N, C], [C] or []");
    return {keep(torch::stable::contiguous(*t)), dims == 2 ? c : 0, dims == 0 ? 0 : 1, otherwise};
  }

  // [N, 1, H, W] or [1, 1, H, W]
  PixelNumbers pixels(const char* name, const Optional& t) {
    if (!t.has_value()) return {nullptr, 0};
    const bool fits = t->dim() == 4 && (t->size(0) == 1 || t->size(0) == like_.size(0)) && t->size(1) == 1 &&
                      t->size(2) == like_.size(2) && t->size(3) == like_.size(3);
    check(name, is_arithmetic(*t) && fits, "shape [1, 1, H, W] or [N, 1, H, W]");
    return {keep(torch::stable::contiguous(*t)), t->size(0) == 1 ? 0 : t->size(2) * t->size(3)};
  }

 private:
  void check(const char* name, bool fits, const char* expected) const {
    STD_TORCH_CHECK(fits, "gankern.", op_, ": ", name, " must have ", expected,
                    ", small tensors being float64 for float64, else float32");
  }
  bool is_arithmetic(const Tensor& t) const { return t.scalar_type() == arithmetic_type(like_); }
  bool same_shape(const Tensor& t) const {
    for (int64_t d = 0; d < 4; ++d) {
      if (t.size(d) != like_.size(d)) return false;
    }
    return true;
  }
  const void* keep(const Tensor& t) {
    kept_.push_back(t);
    return t.const_data_ptr();
  }

  const char* op_;
  const Tensor& like_;
  std::vector<Tensor> kept_;
};

Activation parse(const char* op, const std::string& name, bool piecewise_linear) {
  const Activation act = activation_from(name);
  STD_TORCH_CHECK(act != Activation::unknown && (!piecewise_linear || act <= Activation::lrelu), "gankern.", op,
                  ": act must be the name of ", piecewise_linear ? "a piecewise linear" : "an", " activation, got '",
                  name, "'");
  return act;
}

void check_ref(const char* op, const Optional& ref, Activation act, const std::optional<double>& clamp) {
  STD_TORCH_CHECK(ref.has_value() || (act == Activation::linear && !clamp.has_value()), "gankern.", op,
                  ": ref must be given but for act='linear' without clamp, got None");
}

// A sum over pixels [N, C], or [0] if it is not wanted, from the parts [sample, part, channel] that the units write.
class PixelSum {
 public:
  PixelSum(const Tensor& like, bool wanted) : result_(empty(like, wanted)), wanted_(wanted && like.numel() != 0) {
    if (wanted && !wanted_) torch::stable::zero_(result_);
  }

  double* parts(const cpu::StyledUnits& units) {
    if (!wanted_) return nullptr;
    number_ = units.parts;
    parts_.resize(units.count * units.channels);
    return parts_.data();
  }

  Tensor result() const {
    if (!wanted_) return result_;
    const int64_t channels = result_.size(1);
    void* to = result_.mutable_data_ptr();
    for (int64_t i = 0; i < result_.numel(); ++i) {
      const double* part = parts_.data() + i / channels * number_ * channels + i % channels;
      double sum = 0;
      for (int64_t k = 0; k < number_; ++k) sum += part[k * channels];
      if (result_.scalar_type() == ScalarType::Double) {
        static_cast<double*>(to)[i] = sum;
      } else {
        static_cast<float*>(to)[i] = float(sum);
      }
    }
    return result_;
  }

 private:
  static Tensor empty(const Tensor& like, bool wanted) {
    if (!wanted) return torch::stable::new_empty(like, {0}, arithmetic_type(like));
    return torch::stable::new_empty(like, {like.size(0), like.size(1)}, arithmetic_type(like));
  }

  Tensor result_;
  bool wanted_;
  int64_t number_ = 0;
  std::vector<double> parts_;
};

template <typename Kernel>
void for_units(const StyledShape& shape, const Kernel& kernel) {
  const cpu::StyledUnits units(shape);
  const int64_t grain = 1 + 32768 / (units.channels * units.pixels);
  parallel_for(0, units.count, grain, kernel);
}

// Which sums are wanted: of du times x (or u, if x is the result), and of du.
struct Wanted {
  bool sum_x, x_is_y, sum_b;
};

std::tuple<Tensor, Tensor, Tensor, Tensor> backward(const char* op, const Tensor& dy, const Optional& ref,
                                                    const Optional& x, const Optional& scale, const Optional& noise,
                                                    const std::string& act, double alpha, double gain,
                                                    std::optional<double> clamp, const Wanted& wanted) {
  Tensor dx = empty_as(ref.has_value() ? *ref : x.value_or(dy), op);
  Reader reader(op, dx);
  StyledBiasActBackwardParams p{};
  p.shape = shape_of(dx, op);
  p.dy = reader.image("dy", dy);
  p.ref = reader.image("ref", ref);
  p.x = wanted.x_is_y ? p.ref : reader.image("x", x);
  p.x_is_y = wanted.x_is_y;
  p.scale = reader.channels("scale", scale, 2, 1);
  p.noise = reader.pixels("noise", noise);
  p.dx = dx.mutable_data_ptr();
  p.act = parse(op, act, true);
  check_ref(op, ref, p.act, clamp);
  p.alpha = alpha, p.gain = gain, p.clamp = clamp.value_or(-1);
  PixelSum sum_x(dx, wanted.sum_x), sum_noise(dx, noise.has_value()), sum_b(dx, wanted.sum_b);
  if (dx.numel() != 0) {
    using namespace cpu;
    const StyledUnits units(p.shape);
    p.sum_x = sum_x.parts(units), p.sum_noise = sum_noise.parts(units), p.sum_b = sum_b.parts(units);
    for_units(p.shape, [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(styled_bias_act_backward, p, begin, end); });
  }
  return {dx, sum_x.result(), sum_noise.result(), sum_b.result()};
}

}  // namespace

Tensor styled_bias_act(const Tensor x, const Optional scale, const Optional noise, const Optional strength,
                       const Optional b, const std::string act, double alpha, double gain,
                       std::optional<double> clamp) {
  constexpr const char* op = "styled_bias_act";
  Tensor y = empty_as(x, op);
  Reader reader(op, y);
  StyledBiasActParams p{};
  p.shape = shape_of(y, op);
  p.x = reader.image("x", x);
  p.scale = reader.channels("scale", scale, 2, 1);
  p.noise = reader.pixels("noise", noise);
  p.strength = reader.channels("strength", strength, strength.has_value() ? strength->dim() : 0, 1);
  p.b = reader.channels("b", b, 1, 0);
  p.y = y.mutable_data_ptr();
  p.act = parse(op, act, false);
  p.alpha = alpha, p.gain = gain, p.clamp = clamp.value_or(-1);
  if (y.numel() == 0) return y;
  using namespace cpu;
  for_units(p.shape, [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(styled_bias_act, p, begin, end); });
  return y;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> styled_bias_act_backward(const Tensor dy, const Optional ref,
                                                                    const Optional x, const Optional scale,
                                                                    const Optional noise, const std::string act,
                                                                    double alpha, double gain,
                                                                    std::optional<double> clamp, bool bias_gradient) {
  const Wanted wanted{x.has_value(), false, bias_gradient};
  return backward("styled_bias_act_backward", dy, ref, x, scale, noise, act, alpha, gain, clamp, wanted);
}

// As styled_bias_act_backward with the sums of du times u and of du, for whom the input of the tail is no more there.
std::tuple<Tensor, Tensor, Tensor, Tensor> styled_conv2d_tail_backward(const Tensor dy, const Tensor y,
                                                                       const Optional scale, const Optional noise,
                                                                       const std::string act, double alpha, double gain,
                                                                       std::optional<double> clamp) {
  return backward("styled_conv2d_tail_backward", dy, y, y, scale, noise, act, alpha, gain, clamp, {true, true, true});
}

std::tuple<Tensor, Tensor, Tensor> styled_bias_act_backward_backward(
    const Tensor dy, const Optional ref, const Optional x, const Optional scale, const Optional noise, const Tensor ddx,
    const Optional dd_scale, const Optional dd_strength, const Optional dd_b, const std::string act, double alpha,
    double gain, std::optional<double> clamp, bool want_x, bool want_scale) {
  constexpr const char* op = "styled_bias_act_backward_backward";
  Tensor grad_dy = empty_as(ref.has_value() ? *ref : x.value_or(dy), op);
  STD_TORCH_CHECK(x.has_value() == dd_scale.has_value() && noise.has_value() == dd_strength.has_value(), "gankern.", op,
                  ": x must be given with dd_scale, and noise with dd_strength");
  STD_TORCH_CHECK(!want_x || x.has_value(), "gankern.", op, ": want_x must be false without dd_scale");
  const bool reads_dy = want_x || want_scale;
  Tensor grad_x = reads_dy && x.has_value() ? torch::stable::empty_like(grad_dy)
                                            : torch::stable::new_empty(grad_dy, {0}, grad_dy.scalar_type());
  Reader reader(op, grad_dy);
  StyledBiasActBackwardBackwardParams p{};
  p.shape = shape_of(grad_dy, op);
  p.dy = reads_dy ? reader.image("dy", dy) : nullptr;
  p.ref = reader.image("ref", ref);
  p.x = reader.image("x", x);
  p.scale = reader.channels("scale", scale, 2, 1);
  p.noise = reader.pixels("noise", noise);
  p.ddx = reader.image("ddx", ddx);
  p.dd_scale = reader.channels("dd_scale", dd_scale, 2, 0);
  p.dd_strength = reader.channels("dd_strength", dd_strength, 2, 0);
  p.dd_b = reader.channels("dd_b", dd_b, 2, 0);
  p.grad_dy = grad_dy.mutable_data_ptr(), p.grad_x = grad_x.mutable_data_ptr();
  p.act = parse(op, act, true);
  check_ref(op, ref, p.act, clamp);
  p.alpha = alpha, p.gain = gain, p.clamp = clamp.value_or(-1);
  PixelSum sum_scale(grad_dy, want_scale);
  if (grad_dy.numel() != 0) {
    using namespace cpu;
    p.sum_scale = sum_scale.parts(StyledUnits(p.shape));
    for_units(p.shape,
              [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(styled_bias_act_backward_backward, p, begin, end); });
  }
  if (!want_x) grad_x = torch::stable::new_empty(grad_dy, {0}, grad_dy.scalar_type());
  return {grad_dy, grad_x, sum_scale.result()};
}

STABLE_TORCH_LIBRARY_IMPL(gankern, CPU, m) {
  m.impl("styled_bias_act", TORCH_BOX(&styled_bias_act));
  m.impl("styled_bias_act_backward", TORCH_BOX(&styled_bias_act_backward));
  m.impl("styled_conv2d_tail_backward", TORCH_BOX(&styled_conv2d_tail_backward));
  m.impl("styled_bias_act_backward_backward", TORCH_BOX(&styled_bias_act_backward_backward));
}

}  // namespace gankern::bind

#endif
