// conditional_batch_norm: Tensor -> parameters, for the CPU.
#ifndef USE_CUDA
#include "../cpu/conditional_batch_norm.h"

#include <cmath>
#include <optional>
#include <tuple>

#include "tensor.h"

namespace gankern::bind {

namespace {

constexpr const char* kOp = "conditional_batch_norm";

Tensor empty_image(const Tensor& x, int64_t up) {
  return torch::stable::empty({x.size(0), x.size(1), x.size(2) * up, x.size(3) * up}, x.scalar_type(), std::nullopt,
                              x.device(), std::nullopt, format_of(x));
}

ScalarType arithmetic_type(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

Tensor image(const Tensor& t, const Tensor& x, int64_t up, const char* argument) {
  STD_TORCH_CHECK(t.dim() == 4 && t.size(0) == x.size(0) && t.size(1) == x.size(1) && t.size(2) == x.size(2) * up &&
                      t.size(3) == x.size(3) * up && t.scalar_type() == x.scalar_type(),
                  "gankern.", kOp, ": ", argument, " must be of the dtype of x, with the shape of ",
                  up == 1 ? "x" : "x upsampled");
  return torch::stable::contiguous(t, format_of(x));
}

constexpr int64_t kOneRow = -1;

// A small tensor of the arithmetic type, [rows, C] or [C].
Tensor table(const Tensor& t, const Tensor& x, int64_t rows, const char* argument) {
  const bool fits = rows == kOneRow ? t.dim() == 1 : t.dim() == 2 && t.size(0) == rows;
  STD_TORCH_CHECK(fits && t.size(t.dim() - 1) == x.size(1) && t.scalar_type() == arithmetic_type(x), "gankern.", kOp,
                  ": ", argument, " must have ", rows == kOneRow ? 1 : rows, " rows of C = ", x.size(1),
                  " numbers in float32, or float64 where x is");
  return torch::stable::contiguous(t);
}

BatchNormParams parameters(const Tensor& x) {
  STD_TORCH_CHECK(x.dim() == 4 && x.size(2) >= 1 && x.size(3) >= 1, "gankern.", kOp,
                  ": x must have shape [N, C, H, W] with H >= 1 and W >= 1");
  BatchNormParams p{};
  p.dtype = dtype_of(x, kOp, "x");
  p.channels_last = format_of(x) == MemoryFormat::ChannelsLast;
  p.n = x.size(0), p.c = x.size(1), p.h = x.size(2), p.w = x.size(3);
  p.x = x.const_data_ptr();
  p.up = 1;
  return p;
}

double element(const Tensor& t, int64_t i) {
  if (t.scalar_type() == ScalarType::Double) return static_cast<const double*>(t.const_data_ptr())[i];
  return static_cast<const float*>(t.const_data_ptr())[i];
}

void set_element(Tensor& t, int64_t i, double value) {
  if (t.scalar_type() == ScalarType::Double) {
    static_cast<double*>(t.mutable_data_ptr())[i] = value;
  } else {
    static_cast<float*>(t.mutable_data_ptr())[i] = float(value);
  }
}

void* row_of(Tensor& t, int64_t row) {
  const int64_t bytes = t.scalar_type() == ScalarType::Double ? 8 : 4;
  return static_cast<char*>(t.mutable_data_ptr()) + row * t.size(1) * bytes;
}

// Runs body(begin, end) over the units of work, a unit being so many elements.
template <typename Body>
void for_units(const BatchNormParams& p, int64_t count, const Body& body) {
  const int64_t elements = p.n * p.c * p.h * p.w * p.up * p.up;
  parallel_for(0, count, 1 + 16384 * count / std::max<int64_t>(1, elements), body);
}

// Rows mean, rstd and biased variance of statistics [3, C], for channel c.
void set_statistics(Tensor& statistics, int64_t c, double mean, double variance, double eps) {
  const int64_t channels = statistics.size(1);
  set_element(statistics, c, mean);
  set_element(statistics, channels + c, 1 / std::sqrt(variance + eps));
  set_element(statistics, 2 * channels + c, variance);
}

// The moments of channel c from those of the units.
cpu::Moments moments_of(const BatchNormParams& p, const cpu::BatchNormUnits& units, const double* partial, int64_t c) {
  const double count = double(p.n) * p.h * p.w;
  if (!p.channels_last) return {count, partial[2 * c], partial[2 * c + 1]};
  cpu::Moments total;
  for (int64_t unit = 0; unit < units.count; ++unit) {
    const int64_t row = unit % units.per_image * units.rows;
    const double pixels = double(std::min(units.rows, p.h - row)) * p.w;
    total.add(pixels, partial[2 * unit * p.c + c], partial[(2 * unit + 1) * p.c + c]);
  }
  return total;
}

// Computes the statistics, and in NCHW hands each channel to `then(begin, end)` while it is in the cache.
template <typename Then>
void compute_moments(const BatchNormParams& p, Tensor& statistics, double eps, const Then& then) {
  using namespace cpu;
  const BatchNormUnits units(p);
  std::vector<double> partial(2 * units.count * (p.channels_last ? p.c : 1));
  const auto finish = [&](int64_t c) {
    const Moments m = moments_of(p, units, partial.data(), c);
    set_statistics(statistics, c, m.mean, m.count > 0 ? m.m2 / m.count : 0, eps);
  };
  for_units(p, units.count, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      GANKERN_CALL_BEST(batch_norm_moments, p, partial.data(), unit, unit + 1);
      if (p.channels_last) continue;
      finish(unit);
      then(unit, unit + 1);
    }
  });
  for (int64_t c = 0; p.channels_last && c < p.c; ++c) finish(c);
  if (p.channels_last) for_units(p, units.count, then);
}

}  // namespace

Tensor conditional_batch_norm_moments(const Tensor x_any) {
  const Tensor x = torch::stable::contiguous(x_any, format_of(x_any));
  Tensor statistics = torch::stable::new_empty(x, {3, x.size(1)}, arithmetic_type(x));
  compute_moments(parameters(x), statistics, 1, [](int64_t, int64_t) {});
  return statistics;
}

std::tuple<Tensor, Tensor> conditional_batch_norm(const Tensor x_any, const Tensor gain_any, const Tensor bias_any,
                                                  const std::optional<Tensor> mean, const std::optional<Tensor> var,
                                                  double eps, bool relu, int64_t up, bool, const std::string) {
  using namespace cpu;
  STD_TORCH_CHECK(up == 1 || up == 2, "gankern.", kOp, ": up must be 1 or 2, got ", up);
  STD_TORCH_CHECK(mean.has_value() == var.has_value(), "gankern.", kOp, ": mean and var must be given together");
  const Tensor x = torch::stable::contiguous(x_any, format_of(x_any));
  BatchNormParams p = parameters(x);
  const Tensor gain = table(gain_any, x, p.n, "gain"), bias = table(bias_any, x, p.n, "bias");
  Tensor y = empty_image(x, up);
  Tensor statistics = torch::stable::new_empty(x, {3, p.c}, arithmetic_type(x));
  p.relu = relu, p.up = int(up);
  p.gain = gain.const_data_ptr(), p.bias = bias.const_data_ptr();
  p.mean = row_of(statistics, 0), p.rstd = row_of(statistics, 1);
  p.y = y.mutable_data_ptr();
  const auto normalise = [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(batch_norm_normalise, p, begin, end); };
  if (!mean.has_value()) {
    compute_moments(p, statistics, eps, normalise);
    return {y, statistics};
  }
  const Tensor known_mean = table(*mean, x, kOneRow, "mean"), known_var = table(*var, x, kOneRow, "var");
  for (int64_t c = 0; c < p.c; ++c) set_statistics(statistics, c, element(known_mean, c), element(known_var, c), eps);
  for_units(p, BatchNormUnits(p).count, normalise);
  return {y, statistics};
}

namespace {

// What both backward kernels read; keeps the tensors whose memory the parameters point to.
struct Backward {
  BatchNormBackwardParams p{};
  std::vector<Tensor> held;
  int64_t kinds, mean_kinds;

  Backward(const Tensor& dy, const Tensor& x_any, const Tensor& gain, const Tensor& bias, const Tensor& statistics,
           const std::optional<Tensor>& ddx, bool relu, int64_t up) {
    STD_TORCH_CHECK(up == 1 || up == 2, "gankern.", kOp, "_backward: up must be 1 or 2, got ", up);
    const Tensor& x = keep(torch::stable::contiguous(x_any, format_of(x_any)));
    static_cast<BatchNormParams&>(p) = parameters(x);
    p.relu = relu, p.up = int(up);
    p.dy = keep(image(dy, held[0], up, "dy")).const_data_ptr();
    p.gain = keep(table(gain, held[0], p.n, "gain")).const_data_ptr();
    p.bias = keep(table(bias, held[0], p.n, "bias")).const_data_ptr();
    Tensor& table_of_3 = keep(table(statistics, held[0], 3, "statistics"));
    p.mean = row_of(table_of_3, 0), p.rstd = row_of(table_of_3, 1);
    p.second = ddx.has_value();
    if (p.second) p.ddx = keep(image(*ddx, held[0], 1, "ddx")).const_data_ptr();
    kinds = p.second ? kSecondOrderSums : kFirstOrderSums;
    mean_kinds = p.second ? kSecondOrderMeans : kFirstOrderMeans;
  }

  Tensor& keep(Tensor t) {
    held.push_back(std::move(t));
    return held.back();
  }

  const Tensor& x() const { return held[0]; }
  double number(const void* table, int64_t i) const {
    return p.dtype == DType::f64 ? static_cast<const double*>(table)[i] : static_cast<const float*>(table)[i];
  }

  // sums[k][n][c] of g, g xhat, and in second order h, h xhat, g h; `then` as in compute_moments, after `finish(c)`.
  template <typename Finish, typename Then>
  void compute_sums(std::vector<double>& sums, const Finish& finish, const Then& then) const {
    using namespace cpu;
    const BatchNormUnits units(p);
    sums.assign(kinds * p.n * p.c, 0.0);
    std::vector<double> partial(p.channels_last ? units.count * kinds * p.c : 0);
    double* to = p.channels_last ? partial.data() : sums.data();
    const auto scale_and_finish = [&](int64_t c) {
      for (int64_t k : {kSumGX, kSumHX}) {
        for (int64_t n = 0; k < kinds && n < p.n; ++n) sums[(k * p.n + n) * p.c + c] *= number(p.rstd, c);
      }
      finish(c);
    };
    for_units(p, units.count, [&](int64_t begin, int64_t end) {
      for (int64_t unit = begin; unit < end; ++unit) {
        GANKERN_CALL_BEST(batch_norm_sums, p, to, unit, unit + 1);
        if (p.channels_last) continue;
        scale_and_finish(unit);
        then(unit, unit + 1);
      }
    });
    if (!p.channels_last) return;
    for (int64_t unit = 0; unit < units.count; ++unit) {
      for (int64_t k = 0; k < kinds; ++k) {
        double* of_image = sums.data() + (k * p.n + unit / units.per_image) * p.c;
        for (int64_t c = 0; c < p.c; ++c) of_image[c] += partial[(unit * kinds + k) * p.c + c];
      }
    }
    for (int64_t c = 0; c < p.c; ++c) scale_and_finish(c);
    for_units(p, units.count, then);
  }

  // The averages of channel c over this process's batch.
  void compute_means(const std::vector<double>& sums, int64_t c) const {
    double total[kSecondOrderMeans] = {};
    for (int64_t n = 0; n < p.n; ++n) {
      const int64_t at = n * p.c + c, next = p.n * p.c;
      const double gain = number(p.gain, at), g = sums[kSumG * next + at], gx = sums[kSumGX * next + at];
      total[kMeanGainG] += gain * g;
      total[kMeanGainGX] += gain * gx;
      if (!p.second) continue;
      total[kMeanH] += sums[kSumH * next + at];
      total[kMeanHX] += sums[kSumHX * next + at];
      total[kMeanGainGH] += gain * sums[kSumGH * next + at];
      total[kMeanPG] += number(p.ddgain, at) * g;
      total[kMeanPGX] += number(p.ddgain, at) * gx;
    }
    const double count = double(p.n) * p.h * p.w;
    for (int64_t k = 0; k < mean_kinds; ++k) p.means[k * p.c + c] = total[k] / count;
  }

  Tensor as_tensor(const std::vector<double>& sums) const {
    Tensor t = torch::stable::new_empty(x(), {kinds, p.n, p.c}, arithmetic_type(x()));
    for (int64_t i = 0; i < int64_t(sums.size()); ++i) set_element(t, i, sums[i]);
    return t;
  }
};

}  // namespace

Tensor conditional_batch_norm_backward_sums(const Tensor dy, const Tensor x, const Tensor gain, const Tensor bias,
                                            const Tensor statistics, const std::optional<Tensor> ddx, bool relu,
                                            int64_t up) {
  const Backward backward(dy, x, gain, bias, statistics, ddx, relu, up);
  std::vector<double> sums;
  backward.compute_sums(sums, [](int64_t) {}, [](int64_t, int64_t) {});
  return backward.as_tensor(sums);
}

std::tuple<Tensor, Tensor, Tensor> conditional_batch_norm_backward_combine(
    const Tensor dy, const Tensor x, const Tensor gain, const Tensor bias, const Tensor statistics,
    const std::optional<Tensor> ddx, const std::optional<Tensor> ddgain, const std::optional<Tensor> ddbias,
    const std::optional<Tensor> means_any, bool relu, int64_t up, bool training) {
  using namespace cpu;
  Backward backward(dy, x, gain, bias, statistics, ddx, relu, up);
  BatchNormBackwardParams& p = backward.p;
  STD_TORCH_CHECK(ddx.has_value() == ddgain.has_value() && ddx.has_value() == ddbias.has_value(), "gankern.", kOp,
                  "_backward: ddx, ddgain and ddbias must be given together");
  if (p.second) {
    p.ddgain = backward.keep(table(*ddgain, backward.x(), p.n, "ddgain")).const_data_ptr();
    p.ddbias = backward.keep(table(*ddbias, backward.x(), p.n, "ddbias")).const_data_ptr();
  }
  std::vector<double> means(backward.mean_kinds * p.c), sums;
  p.means = means.data();
  Tensor grad_x = empty_image(backward.x(), 1);
  Tensor grad_dy = p.second ? empty_image(backward.x(), up) : torch::stable::new_empty(x, {0});
  p.grad_x = grad_x.mutable_data_ptr(), p.grad_dy = grad_dy.mutable_data_ptr();
  const auto combine = [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(batch_norm_combine, p, begin, end); };
  if (means_any.has_value()) {
    const Tensor known = table(*means_any, backward.x(), backward.mean_kinds, "means");
    for (int64_t i = 0; i < int64_t(means.size()); ++i) means[i] = element(known, i);
    for_units(p, BatchNormUnits(p).count, combine);
    return {grad_x, grad_dy, torch::stable::new_empty(x, {0}, arithmetic_type(x))};
  }
  const auto finish = [&](int64_t c) {
    if (training) backward.compute_means(sums, c);
  };
  backward.compute_sums(sums, finish, combine);
  return {grad_x, grad_dy, backward.as_tensor(sums)};
}

STABLE_TORCH_LIBRARY_IMPL(gankern, CPU, m) {
  m.impl("conditional_batch_norm_moments", TORCH_BOX(&conditional_batch_norm_moments));
  m.impl("conditional_batch_norm", TORCH_BOX(&conditional_batch_norm));
  m.impl("conditional_batch_norm_backward_sums", TORCH_BOX(&conditional_batch_norm_backward_sums));
  m.impl("conditional_batch_norm_backward_combine", TORCH_BOX(&conditional_batch_norm_backward_combine));
}

}  // namespace gankern::bind
#endif
