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

// Transforms products back into the image, with the layer's tail.
template <typename T>
class Back {
 public:
  explicit Back(const WinogradConv2dParams& p) : p_(p), tail_(p) {}

  // Tiles [begin, end), output channels [o, o + kBlockColumns).
  void write(int64_t begin, int64_t end, int64_t o, const Transformed& products) const {
    for_runs(p_.tiles, begin, end, [&](const Run& run) {
      for (int64_t c = 0; c < kBlockColumns && o + c < p_.y.c; c += kLanes) {
        write(run, o + c, products.at(run.first, c), products);
      }
    });
  }

 private:
  void write(const Run& run, int64_t o, const float* from, const Transformed& like) const {
    using V = decltype(Lanes::v);
    alignas(64) float strip[4 * kStripColumns * kLanes];
    for (int64_t t = 0; t < run.count; ++t, from += like.tile) {
      V m[36], half[24], y[16];
#pragma GCC unroll 36
      for (int k = 0; k < 36; ++k) m[k] = Lanes::load(from + k * like.position).v;
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
};

// A block of tiles through the whole convolution: transform, 36 products, transform back and the layer's tail.
template <typename T>
class Forward {
 public:
  explicit Forward(const WinogradConv2dParams& p, int64_t block) : p_(p), back_(p), inputs_(rounded_up(p.x.c, kLanes)) {
    v_ = {nullptr, block * inputs_ + kSkew, 0, inputs_, inputs_};
    m_ = {nullptr, block * kBlockColumns + kSkew, 0, kBlockColumns, kBlockColumns};
    v_.data = workspace(kPositions * (v_.position + m_.position));
    m_.data = v_.data + kPositions * v_.position;
  }

  // Output channels [o_begin, o_end) of tiles [begin, end).
  void run(int64_t begin, int64_t end, int64_t o_begin, int64_t o_end) const {
    Reader<6, T>{p_.x, p_.tiles, p_.scale}.read(begin, end, 0, inputs_, v_);
    const int64_t column = packed_column(p_.x.c), position = packed_position(p_.x.c);
    for (int64_t o = o_begin; o < o_end; o += kBlockColumns) {
      const float* u = p_.kept + o / kBlockColumns * column;
      for (int64_t k = 0; k < kPositions; ++k, u += position) {
        multiply({v_.data + k * v_.position, v_.tile, 1, u, m_.data + k * m_.position, m_.tile, p_.x.c, false,
                  u + position, position},
                 end - begin);
      }
      back_.write(begin, end, o, m_);
    }
  }

 private:
  const WinogradConv2dParams& p_;
  const Back<T> back_;
  const int64_t inputs_;
  Transformed v_, m_;
};

// All tiles of few in the transform domain, in the memory that all threads share, some input channels after the other.
Transformed few_images(const WinogradConv2dParams& p) {
  const int64_t position = p.tiles.count() * kWinogradDepth + kSkew;
  return {p.kept, position, kPositions * position, kWinogradDepth, kWinogradDepth};
}

// Tiles [begin, end) of few, output channels [o, o + kBlockColumns): the weights are transformed for some input
// channels at a time, and stay in the second-level cache with the sums of their products.
template <typename T>
void multiply_few(const WinogradConv2dParams& p, const Transformed& v, int64_t o, int64_t begin, int64_t end) {
  constexpr int64_t kPosition = kWinogradDepth * kBlockColumns + kSkew;
  const int64_t tiles = end - begin;
  Transformed m{nullptr, tiles * kBlockColumns + kSkew, 0, kBlockColumns, kBlockColumns};
  float* u = workspace(kPositions * (kPosition + m.position));
  m.data = u + kPositions * kPosition;
  for (int64_t i = 0; i < p.x.c; i += kWinogradDepth) {
    const int64_t depth = std::min(kWinogradDepth, p.x.c - i);
    pack_weights<Transform>(p.w, o, i, i + depth, u, kPosition);
    const float* from = v.at(begin, i);
    for (int64_t k = 0; k < kPositions; ++k, from += v.position) {
      multiply({from, v.tile, 1, u + k * kPosition, m.data + k * m.position, m.tile, depth, i > 0, from + v.position,
                tiles * v.tile},
               tiles);
    }
  }
  Back<T>(p).write(begin, end, o, m);
}

// Tiles in a block. Many channels: enough to use each weight often, for it comes from far. Few: inputs and results of
// the products stay in the second-level cache, for there is little work on each.
int64_t tiles_in_block(const WinogradConv2dParams& p) {
  const int64_t most = rounded_up(std::clamp<int64_t>(p.x.c * 3 / 8, 24, 66), kBlockRows);
  const int64_t count = p.tiles.count(), blocks = (count + most - 1) / most;
  return (count + blocks - 1) / blocks;
}

// A unit of 32 channels of one image and one piece of a group's tiles into the transform domain.
template <typename T>
void transform_gradient(const WinogradWeightGradientParams& p, const WinogradGradientGroups& plan, int64_t group,
                        int64_t unit) {
  const int64_t first = group * plan.tiles, tiles = std::min(plan.tiles, p.tiles.count() - first);
  const int64_t piece = unit % plan.pieces() * plan.kPiece, end = std::min(piece + plan.kPiece, tiles);
  if (piece >= end) return;
  int64_t c = unit / plan.pieces() * plan.kChannels;
  if (c < plan.inputs) {
    const Transformed v{p.v + c * tiles + piece * kLanes, plan.v_position(), tiles * kLanes, kLanes, kLanes};
    Reader<6, T>{p.x, p.tiles, p.scale}.read(first + piece, first + end, c, plan.kChannels, v);
  } else {
    c -= plan.inputs;
    const int64_t column = tiles * kBlockColumns;
    const Transformed d{p.d + c * tiles + piece * kBlockColumns, plan.d_position(), column, kBlockColumns,
                        kBlockColumns};
    Reader<4, T>{p.dy, p.tiles, p.dy_scale}.read(first + piece, first + end, c, plan.kChannels, d);
  }
}

// One position of a group of tiles.
GradientOperands operands(const WinogradWeightGradientParams& p, const WinogradGradientGroups& plan, int64_t group,
                          int64_t k) {
  const int64_t tiles = std::min(plan.tiles, p.tiles.count() - group * plan.tiles);
  return {p.v + k * plan.v_position(), p.d + k * plan.d_position(), tiles};
}

// Products [begin, end) of a group of tiles.
void multiply_group(const WinogradWeightGradientParams& p, const WinogradGradientGroups& plan, int64_t group,
                    int64_t begin, int64_t end, bool add) {
  const int64_t units = plan.outputs / plan.kChannels, columns = plan.kChannels / kBlockColumns;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t k = unit / units, column = unit % units * columns;
    const GradientOperands at = operands(p, plan, group, k);
    float* sums = p.sums + k * plan.position() + column * kBlockColumns;
    multiply_gradient(at.v, at.d, at.depth, sums, plan.outputs, 0, plan.inputs, column, column + columns, add);
  }
}

}  // namespace

void winograd_few_transform(const WinogradConv2dParams& p, int64_t begin, int64_t end) {
  const Transformed v = few_images(p);
  for_type(p.x.dtype, [&]<typename T>() {
    for (int64_t c = begin * kWinogradFewChannels; c < end * kWinogradFewChannels; c += kWinogradFewChannels) {
      Transformed of_channels = v;
      of_channels.data = v.at(0, c);
      Reader<6, T>{p.x, p.tiles, p.scale}.read(0, p.tiles.count(), c, kWinogradFewChannels, of_channels);
    }
  });
}

void winograd_few_multiply(const WinogradConv2dParams& p, int64_t splits, int64_t begin, int64_t end) {
  const Transformed v = few_images(p);
  const int64_t tiles = p.tiles.count();
  for_type(p.x.dtype, [&]<typename T>() {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t first = unit / splits * kWinogradColumns, split = unit % splits;
      for (int64_t o = first; o < std::min(first + kWinogradColumns, p.y.c); o += kBlockColumns) {
        multiply_few<T>(p, v, o, tiles * split / splits, tiles * (split + 1) / splits);
      }
    }
  });
}

void winograd_weight(const WinogradConv2dParams& p, int64_t begin, int64_t end) {
  pack_columns<Transform>(p.w, p.kept, begin, end);
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

void winograd_gradient_part(const WinogradWeightGradientParams& p, int64_t begin, int64_t end) {
  const WinogradGradientGroups plan(p);
  WinogradWeightGradientParams own = p;
  own.v = workspace(plan.floats());
  own.d = own.v + kPositions * plan.v_position();
  for (int64_t part = begin; part < end; ++part) {
    const int64_t first = plan.count * part / plan.parts(), last = plan.count * (part + 1) / plan.parts();
    own.sums = p.sums + part * plan.sums();
    for (int64_t group = first; group < last; ++group) {
      winograd_gradient_transform(own, group, 0, plan.transforms());
      multiply_group(own, plan, group, 0, plan.products(), group > first);
    }
  }
}

void winograd_gradient_transform(const WinogradWeightGradientParams& p, int64_t group, int64_t begin, int64_t end) {
  const WinogradGradientGroups plan(p);
  for_type(p.x.dtype, [&]<typename T>() {
    for (int64_t unit = begin; unit < end; ++unit) transform_gradient<T>(p, plan, group, unit);
  });
}

void winograd_gradient_multiply(const WinogradWeightGradientParams& p, int64_t group, int64_t begin, int64_t end) {
  multiply_group(p, WinogradGradientGroups(p), group, begin, end, group > 0);
}

void winograd_gradient_unit(const WinogradWeightGradientParams& p, int64_t begin, int64_t end) {
  const WinogradGradientGroups plan(p);
  for (int64_t unit = begin; unit < end; ++unit) {
    gradient_unit<Transform>(plan, unit, p.dw, p.dy.c, p.x.c, [&](int k) { return operands(p, plan, 0, k); });
  }
}

void winograd_gradient_unpack(const WinogradWeightGradientParams& p, int64_t begin, int64_t end) {
  const WinogradGradientGroups plan(p);
  unpack_rows<Transform>(plan, plan.parts(), p.sums, p.dw, p.dy.c, p.x.c, begin, end);
}

}  // namespace gankern::cpu::GANKERN_SIMD
