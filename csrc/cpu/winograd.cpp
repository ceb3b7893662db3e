#include "winograd.h"

#include "winograd_gemm.h"
#include "winograd_memory.h"
#include "winograd_tiles.h"
#include "winograd_weights.h"

namespace gankern::cpu::GANKERN_SIMD {

namespace {

constexpr int64_t kPositions = kWinogradPositions;

struct Transform {
  template <int from, int to, typename V>
  GANKERN_HD static void weight(const V* w, V* u) {
    winograd::weight<from, to>(w, u);
  }
  template <int from, int to, typename V>
  GANKERN_HD static void weight_transposed(const V* u, V* w) {
    winograd::weight_transposed<from, to>(u, w);
  }
};

// What follows the convolution, on a strip [4, kStripColumns, lanes] of results.
class Tail {
 public:
  explicit Tail(const WinogradConv2dParams& p)
      : p_(p),
        constants_(p.alpha, p.gain, p.clamp),
        wanted_(p.act != Activation::linear || p.gain != 1 || p.clamp >= 0 || p.out_scale != nullptr ||
                p.noise != nullptr || p.b != nullptr) {}

  void apply(const Run& run, int64_t rows, int64_t columns, int64_t c, float* strip) const {
    if (!wanted_) return;
    switch (p_.act) {
#define GANKERN_CASE(name) \
  case Activation::name:   \
    return apply_as<Activation::name>(run, rows, columns, c, strip);
      GANKERN_CASE(linear)
      GANKERN_CASE(relu)
      GANKERN_CASE(lrelu)
      GANKERN_CASE(tanh)
      GANKERN_CASE(sigmoid)
      GANKERN_CASE(elu)
      GANKERN_CASE(selu)
      GANKERN_CASE(softplus)
      GANKERN_CASE(swish)
#undef GANKERN_CASE
      default:
        return;
    }
  }

 private:
  template <Activation act>
  void apply_as(const Run& run, int64_t rows, int64_t columns, int64_t c, float* __restrict strip) const {
    const BiasActConstants<float> k = constants_;
    const int64_t channels = std::min<int64_t>(kLanes, p_.y.c - c);
    alignas(64) float scale[kLanes], b[kLanes];
    (p_.out_scale ? Lanes::load(p_.out_scale + run.n * p_.y.c + c, 0, channels) : Lanes::fill(1)).store(scale);
    (p_.b ? Lanes::load(p_.b + c, 0, channels) : Lanes::fill(0)).store(b);
    for (int64_t row = 0; row < rows; ++row, strip += kStripColumns * kLanes) {
      const int64_t first = run.n * p_.noise_stride + (run.y + row) * p_.y.w + run.x;
      for (int64_t i = 0; i < columns; ++i) {
        const float noise = p_.noise ? p_.strength * p_.noise[first + i] : 0.0f;
        float* __restrict v = strip + i * kLanes;
#pragma omp simd
        for (int j = 0; j < kLanes; ++j) v[j] = gankern::bias_act<act>(v[j] * scale[j] + (b[j] + noise), k);
      }
    }
  }

  const WinogradConv2dParams& p_;
  const BiasActConstants<float> constants_;
  const bool wanted_;
};

// A block of tiles through the whole convolution: transform, 36 products, transform back and the layer's tail.
template <typename T>
class Forward {
 public:
  explicit Forward(const WinogradConv2dParams& p, int64_t block) : p_(p), tail_(p), inputs_(rounded_up(p.x.c, kLanes)) {
    v_ = {nullptr, block * inputs_ + kSkew, 0, inputs_, inputs_};
    m_ = {nullptr, block * kChunk + kSkew, 0, kChunk, kChunk};
    v_.data = workspace(kPositions * (v_.position + m_.position));
    m_.data = v_.data + kPositions * v_.position;
  }

  static constexpr int64_t kChunk = 64;  // output channels at a time

  // Output channels [o_begin, o_end) of tiles [begin, end).
  void run(int64_t begin, int64_t end, int64_t o_begin, int64_t o_end) const {
    Reader<6, T>{p_.x, p_.tiles, p_.scale}.read(begin, end, 0, inputs_, v_);
    for (int64_t o = o_begin; o < o_end; o += kChunk) {
      const int64_t outputs = std::min(kChunk, o_end - o);
      for (int64_t k = 0; k < kPositions; ++k) {
        for (int64_t c = 0; c < outputs; c += kBlockColumns) {
          const float* u = p_.u + ((o + c) * kPositions + k * kBlockColumns) * p_.x.c;
          multiply({v_.data + k * v_.position, v_.tile, 1, u, m_.data + k * m_.position + c, m_.tile, p_.x.c, false},
                   end - begin);
        }
      }
      for_runs(p_.tiles, begin, end, [&](const Run& tiles) {
        for (int64_t c = 0; c < outputs && o + c < p_.y.c; c += kLanes) write(tiles, o + c, m_.at(tiles.first, c));
      });
    }
  }

 private:
  void write(const Run& run, int64_t o, const float* from) const {
    using V = decltype(Lanes::v);
    alignas(64) float strip[4 * kStripColumns * kLanes];
    for (int64_t t = 0; t < run.count; ++t, from += m_.tile) {
      V m[36], half[24], y[16];
#pragma GCC unroll 36
      for (int k = 0; k < 36; ++k) m[k] = Lanes::load(from + k * m_.position).v;
#pragma GCC unroll 6
      for (int j = 0; j < 6; ++j) winograd::output<6, 6>(m + j, half + j);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) winograd::output<1, 1>(half + 6 * i, y + 4 * i);
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) Lanes{y[i]}.store(strip + (i / 4 * kStripColumns + 4 * t + i % 4) * kLanes);
    }
    const int64_t rows = std::min<int64_t>(4, p_.y.h - run.y), columns = std::min(4 * run.count, p_.y.w - run.x);
    tail_.apply(run, rows, columns, o, strip);
    write_strip<T>(p_.y, run.n, run.y, run.x, rows, columns, o, strip);
  }

  const WinogradConv2dParams& p_;
  const Tail tail_;
  const int64_t inputs_;
  Transformed v_, m_;
};

// Tiles in a block. Many channels: enough to use each weight often, for it comes from far. Few: inputs and results of
// the products stay in the second-level cache, for there is little work on each.
int64_t tiles_in_block(const WinogradConv2dParams& p) {
  const int64_t most = rounded_up(std::clamp<int64_t>(p.x.c * 3 / 8, 24, 66), kBlockRows);
  const int64_t count = p.tiles.count(), blocks = (count + most - 1) / most;
  return (count + blocks - 1) / blocks;
}

// The weight gradient of one chunk of input and output channels, summed over one group of tiles.
template <typename T>
class Gradient {
 public:
  explicit Gradient(const WinogradWeightGradientParams& p) : p_(p), units_(p) {
    constexpr int64_t kTiles = WinogradGradientUnits::kTiles;
    v_ = {nullptr, kTiles * units_.inputs + kSkew, 0, units_.inputs, units_.inputs};
    d_ = {nullptr, kTiles * units_.outputs + kSkew, kTiles * kBlockColumns, kBlockColumns, kBlockColumns};
    v_.data = workspace(kPositions * (v_.position + d_.position));
    d_.data = v_.data + kPositions * v_.position;
  }

  void run(int64_t unit) const {
    float* sums = p_.partial + unit * units_.size();
    const int64_t chunk = unit % units_.per_group, group = unit / units_.per_group;
    const int64_t i = chunk / units_.o_chunks * units_.inputs, o = chunk % units_.o_chunks * units_.outputs;
    const int64_t count = p_.tiles.count(), last = count * (group + 1) / units_.groups;
    bool add = false;
    for (int64_t t = count * group / units_.groups; t < last; t += WinogradGradientUnits::kTiles, add = true) {
      const int64_t end = std::min(t + WinogradGradientUnits::kTiles, last);
      Reader<6, T>{p_.x, p_.tiles, p_.scale}.read(t, end, i, units_.inputs, v_);
      Reader<4, T>{p_.dy, p_.tiles, p_.dy_scale}.read(t, end, o, units_.outputs, d_);
      for (int64_t k = 0; k < kPositions; ++k) {
        float* c = sums + k * units_.inputs * units_.outputs;
        for (int64_t column = 0; column < units_.outputs; column += kBlockColumns) {
          const float* d = d_.data + k * d_.position + column / kBlockColumns * d_.column;
          multiply({v_.data + k * v_.position, 1, v_.tile, d, c + column, units_.outputs, end - t, add}, units_.inputs);
        }
      }
    }
  }

 private:
  const WinogradWeightGradientParams& p_;
  const WinogradGradientUnits units_;
  Transformed v_, d_;
};

}  // namespace

void winograd_weight(const WinogradWeightParams& p, int64_t begin, int64_t end) {
  pack_weights<Transform>(p.u, p.o, p.i, begin, end, [&](int64_t o, int64_t i, int k) {
    return p.transposed ? p.w[9 * (i * p.o + o) + 8 - k] : p.w[9 * (o * p.i + i) + k];
  });
}

int64_t winograd_conv2d_blocks(const WinogradConv2dParams& p) {
  const int64_t block = tiles_in_block(p);
  return (p.tiles.count() + block - 1) / block;
}

void winograd_conv2d(const WinogradConv2dParams& p, int64_t splits, int64_t begin, int64_t end) {
  const int64_t block = tiles_in_block(p), blocks = winograd_conv2d_blocks(p);
  const int64_t columns = (p.y.c + kWinogradColumns - 1) / kWinogradColumns;
  for_type(p.x.dtype, [&]<typename T>() {
    const Forward<T> forward(p, block);
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t first = unit % blocks * block, split = unit / blocks;
      forward.run(first, std::min(first + block, p.tiles.count()), split * columns / splits * kWinogradColumns,
                  (split + 1) * columns / splits * kWinogradColumns);
    }
  });
}

void winograd_weight_gradient(const WinogradWeightGradientParams& p, int64_t begin, int64_t end) {
  for_type(p.x.dtype, [&]<typename T>() {
    const Gradient<T> gradient(p);
    for (int64_t unit = begin; unit < end; ++unit) gradient.run(unit);
  });
}

void winograd_weight_gradient_sum(const WinogradWeightGradientParams& p, int64_t begin, int64_t end) {
  unpack_gradients<Transform>(WinogradGradientUnits(p), p.partial, p.dw, p.dy.c, p.x.c, begin, end);
}

}  // namespace gankern::cpu::GANKERN_SIMD
