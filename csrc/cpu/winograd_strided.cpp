#include "winograd_strided.h"

#include "winograd_gemm.h"
#include "winograd_strided_tiles.h"
#include "winograd_weights.h"

namespace gankern::cpu::GANKERN_SIMD {

namespace {

struct Transform {
  template <int from, int to, typename V>
  GANKERN_HD static void weight(const V* w, V* u) {
    winograd_strided::weight<from, to>(w, u);
  }
  template <int from, int to, typename V>
  GANKERN_HD static void weight_transposed(const V* u, V* w) {
    winograd_strided::weight_transposed<from, to>(u, w);
  }
};

// The small image from the large one with to = kStridedSmall, or the reverse.
template <int to, typename T>
class Convolution {
 public:
  explicit Convolution(const WinogradStridedConv2dParams& p)
      : p_(p),
        inputs_(rounded_up(p.x.c, kWinogradFewChannels)),
        x_{p.x, kOverlapping ? 0 : p.tiles.pad_y, kOverlapping ? 0 : p.tiles.pad_x, p.scale},
        y_{p.y, kOverlapping ? p.tiles.pad_y : 0, kOverlapping ? p.tiles.pad_x : 0, p.out_scale} {}

  // A block of tiles through the whole convolution, output channels [o_begin, o_end).
  void run(const WinogradStridedBlock& block, int64_t o_begin, int64_t o_end) const {
    StridedLines v = images(block), m(block, kOverlapping, kBlockColumns, kBlockColumns);
    v.data = workspace(v.floats() + m.floats());
    m.data = v.data + v.floats();
    read_strided<kFrom, T>(x_, 0, inputs_, v);
    const int64_t column = packed_column(p_.x.c), position = packed_position(p_.x.c);
    for (int64_t o = o_begin; o < o_end; o += kBlockColumns) {
      const float* u = p_.kept + o / kBlockColumns * column;
      for (int k = 0; k < kWinogradPositions; ++k, u += position) {
        multiply({v.matrix(k), inputs_, 1, u, m.matrix(k), kBlockColumns, p_.x.c, false, u + position, position},
                 v.rows(k));
      }
      write(m, o);
    }
  }

  // Few tiles: all of them in the transform domain, in the memory that all threads share.
  int64_t few_floats() const { return few().floats(); }
  void transform_few(int64_t c) const { read_strided<kFrom, T>(x_, c, kWinogradFewChannels, few(), c); }

  // Output channels [o, o + kBlockColumns) of images [begin, end) of few tiles: the weights are transformed for some
  // input channels at a time, and stay in the second-level cache.
  void multiply_few(int64_t o, int64_t begin, int64_t end) const {
    constexpr int64_t kPosition = kWinogradDepth * kBlockColumns + kSkew;
    const StridedLines v = few();
    StridedLines m({begin, end - begin, whole().y, whole().x}, kOverlapping, kBlockColumns, kBlockColumns);
    float* u = workspace(kWinogradPositions * kPosition + m.floats());
    m.data = u + kWinogradPositions * kPosition;
    for (int64_t i = 0; i < p_.x.c; i += kWinogradDepth) {
      const int64_t depth = std::min(kWinogradDepth, p_.x.c - i);
      pack_weights<Transform>(p_.w, o, i, i + depth, u, kPosition);
      for (int k = 0; k < kWinogradPositions; ++k) {
        const float* from = v.matrix(k) + begin * (v.rows(k) / v.images) * inputs_ + i;
        multiply({from, inputs_, 1, u + k * kPosition, m.matrix(k), kBlockColumns, depth, i > 0, u, 0}, m.rows(k));
      }
    }
    write(m, o);
  }

 private:
  static constexpr int kFrom = to == kStridedSmall ? kStridedLarge : kStridedSmall;
  static constexpr bool kOverlapping = to == kStridedLarge;

  WinogradStridedBlock whole() const { return {0, p_.tiles.n, {0, p_.tiles.rows}, {0, p_.tiles.columns}}; }
  StridedLines images(const WinogradStridedBlock& block) const {
    return StridedLines(block, kOverlapping, inputs_, inputs_);
  }
  StridedLines few() const {
    StridedLines v = images(whole());
    v.data = p_.kept;
    return v;
  }

  void write(const StridedLines& m, int64_t o) const {
    const StridedWriter<to, T> writer(y_, p_.tiles, m);
    for_strided_runs(m, [&](int64_t n, int64_t tile_y, int64_t tile_x, int64_t count) {
      for (int64_t c = 0; c < kBlockColumns && o + c < p_.y.c; c += kLanes) {
        writer.write(n, tile_y, tile_x, count, o + c, c);
      }
    });
  }

  const WinogradStridedConv2dParams& p_;
  const int64_t inputs_;
  const StridedSide x_, y_;
};

// Calls body(convolution) for the direction and the storage type.
template <typename Body>
void for_convolution(const WinogradStridedConv2dParams& p, const Body& body) {
  for_type(p.x.dtype, [&]<typename T>() {
    if (p.transposed) {
      body(Convolution<kStridedLarge, T>(p));
    } else {
      body(Convolution<kStridedSmall, T>(p));
    }
  });
}

// Both images of the weight gradient in the transform domain.
struct GradientLines {
  StridedLines v, d;

  GradientLines(const WinogradStridedWeightGradientParams& p, const WinogradGradientPlan& plan, int64_t block)
      : v(WinogradStridedBlocks(p)[block], false, plan.inputs, kLanes),
        d(WinogradStridedBlocks(p)[block], false, plan.outputs, kBlockColumns) {
    v.data = p.v, d.data = p.d;
  }
};

// One position of a block.
GradientOperands operands(const GradientLines& lines, int k) {
  return {lines.v.matrix(k), lines.d.matrix(k), lines.v.rows(k)};
}

// Products [begin, end) of a block.
void multiply_block(const WinogradStridedWeightGradientParams& p, const WinogradGradientPlan& plan, int64_t block,
                    int64_t begin, int64_t end, bool add) {
  const GradientLines lines(p, plan, block);
  const int64_t units = plan.outputs / plan.kChannels, columns = plan.kChannels / kBlockColumns;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t k = unit / units, column = unit % units * columns;
    const GradientOperands at = operands(lines, k);
    float* sums = p.sums + k * plan.position() + column * kBlockColumns;
    multiply_gradient(at.v, at.d, at.depth, sums, plan.outputs, 0, plan.inputs, column, column + columns, add);
  }
}

}  // namespace

int64_t winograd_strided_few_floats(const WinogradStridedConv2dParams& p) {
  int64_t floats = 0;
  for_convolution(p, [&](const auto& convolution) { floats = convolution.few_floats(); });
  return floats;
}

void winograd_strided_few_transform(const WinogradStridedConv2dParams& p, int64_t begin, int64_t end) {
  for_convolution(p, [&](const auto& convolution) {
    for (int64_t unit = begin; unit < end; ++unit) convolution.transform_few(unit * kWinogradFewChannels);
  });
}

void winograd_strided_few_multiply(const WinogradStridedConv2dParams& p, int64_t splits, int64_t begin, int64_t end) {
  for_convolution(p, [&](const auto& convolution) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t first = unit / splits * kWinogradColumns, split = unit % splits;
      for (int64_t o = first; o < std::min(first + kWinogradColumns, p.y.c); o += kBlockColumns) {
        convolution.multiply_few(o, p.tiles.n * split / splits, p.tiles.n * (split + 1) / splits);
      }
    }
  });
}

void winograd_strided_weight(const WinogradStridedConv2dParams& p, int64_t begin, int64_t end) {
  pack_columns<Transform>(p.w, p.kept, begin, end);
}

void winograd_strided_conv2d(const WinogradStridedConv2dParams& p, int64_t splits, int64_t begin, int64_t end) {
  const WinogradStridedBlocks blocks(p);
  const int64_t columns = (p.y.c + kWinogradColumns - 1) / kWinogradColumns;
  for_convolution(p, [&](const auto& convolution) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t split = unit / blocks.count();
      convolution.run(blocks[unit % blocks.count()], split * columns / splits * kWinogradColumns,
                      (split + 1) * columns / splits * kWinogradColumns);
    }
  });
}

WinogradStridedGradientFloats winograd_strided_gradient_floats(const WinogradStridedWeightGradientParams& p) {
  const WinogradGradientPlan plan(p.large.c, p.small.c);
  WinogradStridedGradientFloats most{0, 0};
  for (int64_t block = 0; block < WinogradStridedBlocks(p).count(); ++block) {
    const GradientLines lines(p, plan, block);
    most = {std::max(most.v, lines.v.floats()), std::max(most.d, lines.d.floats())};
  }
  return most;
}

void winograd_strided_gradient_transform(const WinogradStridedWeightGradientParams& p, int64_t block, int64_t begin,
                                         int64_t end) {
  const WinogradGradientPlan plan(p.large.c, p.small.c);
  const GradientLines lines(p, plan, block);
  const StridedSide large{p.large, p.tiles.pad_y, p.tiles.pad_x, p.large_scale};
  const StridedSide small{p.small, 0, 0, p.small_scale};
  for_type(p.large.dtype, [&]<typename T>() {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t c = unit * plan.kChannels;
      if (c < plan.inputs) {
        read_strided<kStridedLarge, T>(large, c, plan.kChannels, lines.v, c);
      } else {
        read_strided<kStridedSmall, T>(small, c - plan.inputs, plan.kChannels, lines.d, c - plan.inputs);
      }
    }
  });
}

void winograd_strided_gradient_multiply(const WinogradStridedWeightGradientParams& p, int64_t block, int64_t begin,
                                        int64_t end) {
  multiply_block(p, WinogradGradientPlan(p.large.c, p.small.c), block, begin, end, block > 0);
}

void winograd_strided_gradient_part(const WinogradStridedWeightGradientParams& p, int64_t begin, int64_t end) {
  const WinogradGradientPlan plan(p.large.c, p.small.c);
  const auto [v, d] = winograd_strided_gradient_floats(p);
  const int64_t blocks = WinogradStridedBlocks(p).count(), parts = plan.parts_of(blocks);
  WinogradStridedWeightGradientParams own = p;
  own.v = workspace(v + d);
  own.d = own.v + v;
  for (int64_t part = begin; part < end; ++part) {
    const int64_t first = blocks * part / parts, last = blocks * (part + 1) / parts;
    own.sums = p.sums + part * plan.sums();
    for (int64_t block = first; block < last; ++block) {
      winograd_strided_gradient_transform(own, block, 0, plan.channel_units());
      multiply_block(own, plan, block, 0, plan.products(), block > first);
    }
  }
}

void winograd_strided_gradient_unit(const WinogradStridedWeightGradientParams& p, int64_t begin, int64_t end) {
  const WinogradGradientPlan plan(p.large.c, p.small.c);
  const GradientLines lines(p, plan, 0);
  for (int64_t unit = begin; unit < end; ++unit) {
    gradient_unit<Transform>(plan, unit, p.dw, p.small.c, p.large.c, [&](int k) { return operands(lines, k); });
  }
}

void winograd_strided_gradient_unpack(const WinogradStridedWeightGradientParams& p, int64_t begin, int64_t end) {
  const WinogradGradientPlan plan(p.large.c, p.small.c);
  const int64_t parts = plan.parts_of(WinogradStridedBlocks(p).count());
  unpack_rows<Transform>(plan, parts, p.sums, p.dw, p.small.c, p.large.c, begin, end);
}

}  // namespace gankern::cpu::GANKERN_SIMD
