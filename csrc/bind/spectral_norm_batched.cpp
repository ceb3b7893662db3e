// spectral_norm_batched: Tensor lists -> layers and units of work, for the CPU.
#include "tensor.h"
#ifndef USE_CUDA
#include <algorithm>
#include <optional>
#include <tuple>

#include "../cpu/spectral_norm_batched.h"

namespace gankern::bind {

namespace {

using cpu::SpectralLayer;
using cpu::SpectralUnit;
using namespace cpu;

constexpr int64_t kElements = 32768;  // of a weight in a unit of work
constexpr int64_t kColumns = 256;     // in a unit of columns, whose sums stay in the first cache

enum class Along { rows, columns };

std::vector<SpectralUnit> units_of(const std::vector<SpectralLayer>& layers, Along along) {
  std::vector<SpectralUnit> units;
  for (size_t i = 0; i < layers.size(); ++i) {
    const int64_t n = along == Along::rows ? layers[i].rows : layers[i].columns;
    const int64_t step = along == Along::rows ? std::max<int64_t>(1, kElements / layers[i].columns) : kColumns;
    for (int64_t at = 0; at < n; at += step) {
      units.push_back({int32_t(i), int32_t(units.size()), at, std::min(at + step, n)});
    }
  }
  return units;
}

template <typename Body>
void for_units(const std::vector<SpectralUnit>& units, const Body& body) {
  parallel_for(0, int64_t(units.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(units[i]);
  });
}

std::vector<SpectralLayer> layers_of(const char* op, const std::vector<Tensor>& weights) {
  STD_TORCH_CHECK(!weights.empty(), "gankern.", op, ": there must be a weight");
  std::vector<SpectralLayer> layers(weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    const Tensor& w = weights[i];
    STD_TORCH_CHECK(w.dim() >= 2 && w.numel() > 0 && w.is_contiguous() && w.scalar_type() == weights[0].scalar_type(),
                    "gankern.", op, ": weights must be contiguous, not empty, [O, ...], all of one dtype, but that of ",
                    "layer ", i, " is not");
    layers[i].rows = w.size(0);
    layers[i].columns = w.numel() / w.size(0);
    layers[i].w = w.const_data_ptr();
  }
  return layers;
}

// The dtype of the weights, and that of vectors and norms.
struct Types {
  DType dtype;
  bool is_double;
  ScalarType accumulate;

  Types(const Tensor& t, const char* op, const char* argument)
      : dtype(dtype_of(t, op, argument)),
        is_double(dtype == DType::f64),
        accumulate(is_double ? ScalarType::Double : ScalarType::Float) {}

  void check(const char* op, const char* argument, const Tensor& t, int64_t n) const {
    STD_TORCH_CHECK(t.numel() == n && t.is_contiguous() && t.scalar_type() == accumulate, "gankern.", op, ": ",
                    argument, " must be contiguous, of ", n, " elements, float64 for float64 and else float32");
  }
  double read(const Tensor& t, size_t i) const {
    return is_double ? static_cast<const double*>(t.const_data_ptr())[i]
                     : double(static_cast<const float*>(t.const_data_ptr())[i]);
  }
  void write(Tensor& t, size_t i, double value) const {
    if (is_double) {
      static_cast<double*>(t.mutable_data_ptr())[i] = value;
    } else {
      static_cast<float*>(t.mutable_data_ptr())[i] = float(value);
    }
  }
};

int64_t vectors_in(const std::vector<SpectralLayer>& layers) {
  int64_t total = 0;
  for (const SpectralLayer& layer : layers) total += layer.rows + layer.columns;
  return total;
}

// u and v of all layers, one after the other.
void place_vectors(std::vector<SpectralLayer>& layers, const Tensor& uv, const Types& types) {
  char* at = static_cast<char*>(uv.mutable_data_ptr());
  const int64_t bytes = types.is_double ? 8 : 4;
  for (SpectralLayer& layer : layers) {
    layer.u = at;
    layer.v = at + layer.rows * bytes;
    at += (layer.rows + layer.columns) * bytes;
  }
}

template <typename A, typename T>
void convert(const T* from, A* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) store(to[i], arithmetic_t<A>(load(from[i])));
}

// Calls body(pointer) with the buffer's memory in its type.
template <typename Body>
void with_buffer(const char* op, const Tensor& buffer, int64_t n, const Body& body) {
  STD_TORCH_CHECK(buffer.numel() == n && buffer.is_contiguous(), "gankern.", op,
                  ": a vector must be contiguous and have ", n, " elements, got ", buffer.numel());
  void* data = buffer.mutable_data_ptr();
  switch (dtype_of(buffer, op, "us")) {
    case DType::f64:
      return body(static_cast<double*>(data));
    case DType::f32:
      return body(static_cast<float*>(data));
    case DType::bf16:
      return body(static_cast<bfloat16*>(data));
    case DType::f16:
      return body(static_cast<float16*>(data));
  }
}

void exchange(const char* op, const Tensor& buffer, void* vector, int64_t n, bool is_double, bool write) {
  with_buffer(op, buffer, n, [&](auto* data) {
    if (is_double) {
      write ? convert(static_cast<double*>(vector), data, n) : convert(data, static_cast<double*>(vector), n);
    } else {
      write ? convert(static_cast<float*>(vector), data, n) : convert(data, static_cast<float*>(vector), n);
    }
  });
}

}  // namespace

// The power iteration: u, v of all layers in one buffer, and sigma; in training u, and v where given, are written back.
std::tuple<Tensor, Tensor> spectral_norm_batched_iterate(const std::vector<Tensor> weights,
                                                         const std::vector<Tensor> us, const std::vector<Tensor> vs,
                                                         const std::string order, double eps, int64_t num_iters,
                                                         bool training) {
  const char* op = "spectral_norm_batched_iterate";
  STD_TORCH_CHECK(us.size() == weights.size() && (vs.empty() || vs.size() == weights.size()), "gankern.", op,
                  ": there must be a u, and a v or none, for each of ", weights.size(), " weights");
  std::vector<SpectralLayer> layers = layers_of(op, weights);
  const Types types(weights[0], op, "weights");
  Tensor uv = torch::stable::new_empty(weights[0], {vectors_in(layers)}, types.accumulate);
  Tensor sigma = torch::stable::new_empty(weights[0], {int64_t(layers.size())}, types.accumulate);
  place_vectors(layers, uv, types);
  std::vector<double> products(vectors_in(layers));
  int64_t at = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    SpectralLayer& layer = layers[i];
    layer.product = products.data() + at;
    at += layer.rows + layer.columns;
    exchange(op, us[i], layer.u, layer.rows, types.is_double, false);
    if (!vs.empty()) exchange(op, vs[i], layer.v, layer.columns, types.is_double, false);
  }
  const std::vector<SpectralUnit> by_row = units_of(layers, Along::rows), by_column = units_of(layers, Along::columns);
  const auto multiply = [&](bool by_v) {
    for_units(by_v ? by_row : by_column, [&](const SpectralUnit& unit) {
      by_v ? GANKERN_CALL_BEST(spectral_rows, types.dtype, layers[unit.layer], unit)
           : GANKERN_CALL_BEST(spectral_columns, types.dtype, layers[unit.layer], unit);
    });
  };
  const auto renew = [&](bool u) {
    multiply(u);
    for (SpectralLayer& layer : layers) layer.sigma = GANKERN_CALL_BEST(spectral_normalise, types.dtype, layer, u, eps);
  };
  const int64_t iterations = training ? num_iters : vs.empty() ? 1 : 0;
  for (int64_t k = 0; k < iterations; ++k) {
    renew(order == "u");
    renew(order != "u");
  }
  if (iterations == 0) {
    multiply(true);
    for (SpectralLayer& layer : layers) layer.sigma = GANKERN_CALL_BEST(spectral_dot, types.dtype, layer);
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    types.write(sigma, i, layers[i].sigma);
    if (!training) continue;
    exchange(op, us[i], layers[i].u, layers[i].rows, types.is_double, true);
    if (!vs.empty()) exchange(op, vs[i], layers[i].v, layers[i].columns, types.is_double, true);
  }
  return {uv, sigma};
}

// W / sigma, and sigma once more.
std::tuple<std::vector<Tensor>, Tensor> spectral_norm_batched(const std::vector<Tensor> weights, const Tensor uv,
                                                              const Tensor sigma) {
  const char* op = "spectral_norm_batched";
  std::vector<SpectralLayer> layers = layers_of(op, weights);
  const Types types(weights[0], op, "weights");
  types.check(op, "sigma", sigma, int64_t(layers.size()));
  std::vector<Tensor> normalised;
  for (size_t i = 0; i < layers.size(); ++i) {
    normalised.push_back(torch::stable::empty_like(weights[i]));
    layers[i].y = normalised[i].mutable_data_ptr();
    layers[i].sigma = types.read(sigma, i);
  }
  for_units(units_of(layers, Along::rows), [&](const SpectralUnit& unit) {
    GANKERN_CALL_BEST(spectral_scale, types.dtype, layers[unit.layer], unit);
  });
  return {normalised, torch::stable::clone(sigma)};
}

std::vector<Tensor> spectral_norm_batched_backward(const std::vector<Tensor> dys, const std::vector<Tensor> ys,
                                                   const Tensor uv, const Tensor sigma,
                                                   const std::optional<Tensor> dsigma) {
  const char* op = "spectral_norm_batched_backward";
  std::vector<SpectralLayer> layers = layers_of(op, ys);
  const Types types(ys[0], op, "ys");
  types.check(op, "uv", uv, vectors_in(layers));
  types.check(op, "sigma", sigma, int64_t(layers.size()));
  if (dsigma.has_value()) types.check(op, "dsigma", *dsigma, int64_t(layers.size()));
  place_vectors(layers, uv, types);
  std::vector<Tensor> gradients, contiguous;
  STD_TORCH_CHECK(dys.size() == ys.size(), "gankern.", op, ": there must be as many dys as ys");
  for (size_t i = 0; i < layers.size(); ++i) {
    STD_TORCH_CHECK(dys[i].numel() == ys[i].numel() && dys[i].scalar_type() == ys[i].scalar_type(), "gankern.", op,
                    ": dy must have the shape and the dtype of y, that of layer ", i, " has not");
    contiguous.push_back(torch::stable::contiguous(dys[i]));
    gradients.push_back(torch::stable::empty_like(ys[i]));
    layers[i].dy = contiguous[i].const_data_ptr();
    layers[i].y = gradients[i].mutable_data_ptr();
    layers[i].sigma = types.read(sigma, i);
    layers[i].r = dsigma.has_value() ? -layers[i].sigma * types.read(*dsigma, i) : 0;
  }
  const std::vector<SpectralUnit> units = units_of(layers, Along::rows);
  std::vector<double> partial(units.size());
  for_units(units, [&](const SpectralUnit& unit) {
    partial[unit.index] = GANKERN_CALL_BEST(spectral_backward_dot, types.dtype, layers[unit.layer], unit);
  });
  for (const SpectralUnit& unit : units) layers[unit.layer].r += partial[unit.index];
  for_units(units, [&](const SpectralUnit& unit) {
    GANKERN_CALL_BEST(spectral_backward, types.dtype, layers[unit.layer], unit);
  });
  return gradients;
}

STABLE_TORCH_LIBRARY_IMPL(gankern, CPU, m) {
  m.impl("spectral_norm_batched_iterate", TORCH_BOX(&spectral_norm_batched_iterate));
  m.impl("spectral_norm_batched", TORCH_BOX(&spectral_norm_batched));
  m.impl("spectral_norm_batched_backward", TORCH_BOX(&spectral_norm_batched_backward));
}

}  // namespace gankern::bind
#endif
