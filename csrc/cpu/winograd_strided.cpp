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

constexpr int64_t kChunk = 64;  // output channels at a time

// A block of tiles through the whole convolution, output channels [o_begin, o_end): the small image from the large one
// with to = kStridedSmall, or the reverse.
template <int to, typename T>
void convolve(const WinogradStridedConv2dParams& p, const WinogradStridedBlock& block, int64_t o_begin, int64_t o_end) {
  constexpr int from = to == kStridedSmall ? kStridedLarge : kStridedSmall;
  constexpr bool overlapping = to == kStridedLarge;
  const int64_t inputs = rounded_up(p.x.c, kLanes);
  StridedLines v(block, overlapping, inputs, inputs), m(block, overlapping, kChunk, kChunk);
  v.data = workspace(v.floats() + m.floats());
  m.data = v.data + v.floats();
  const int64_t pad_y = p.tiles.pad_y, pad_x = p.tiles.pad_x;
  const StridedSide x{p.x, overlapping ? 0 : pad_y, overlapping ? 0 : pad_x, p.scale};
  const StridedSide y{p.y, overlapping ? pad_y : 0, overlapping ? pad_x : 0, p.out_scale};
  const StridedWriter<to, T> writer(y, p.tiles, m);
  read_strided<from, T>(x, 0, inputs, v);
  for (int64_t o = o_begin; o < o_end; o += kChunk) {
    const int64_t outputs = std::min(kChunk, o_end - o);
    for (int k = 0; k < kWinogradPositions; ++k) {
      for (int64_t c = 0; c < outputs; c += kBlockColumns) {
        const float* u = p.u + ((o + c) * kWinogradPositions + k * kBlockColumns) * p.x.c;
        multiply({v.matrix(k), inputs, 1, u, m.matrix(k) + c, kChunk, p.x.c, false}, v.rows(k));
      }
    }
    for_strided_runs(m, [&](int64_t n, int64_t tile_y, int64_t tile_x, int64_t count) {
      for (int64_t c = 0; c < outputs && o + c < p.y.c; c += kLanes) {
        writer.write(n, tile_y, tile_x, count, o + c, c);
      }
    });
  }
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

// Products [begin, end) of a block.
void multiply_block(const WinogradStridedWeightGradientParams& p, const WinogradGradientPlan& plan, int64_t block,
                    int64_t begin, int64_t end, bool add) {
  const GradientLines lines(p, plan, block);
  const int64_t units = plan.outputs / plan.kChannels, columns = plan.kChannels / kBlockColumns;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t k = unit / units, column = unit % units * columns;
    multiply_gradient(plan, lines.v.matrix(k), lines.d.matrix(k), lines.v.rows(k),
                      p.sums + k * plan.inputs * plan.outputs, column, column + columns, add);
  }
}

}  // namespace

void winograd_strided_weight(const WinogradStridedWeightParams& p, int64_t begin, int64_t end) {
  pack_weights<Transform>(p.u, p.o, p.i, begin, end, [&](int64_t o, int64_t i, int k) {
    return p.w[o * p.stride_o + i * p.stride_i + k / 3 * p.stride_y + k % 3 * p.stride_x];
  });
}

void winograd_strided_conv2d(const WinogradStridedConv2dParams& p, int64_t splits, int64_t begin, int64_t end) {
  const WinogradStridedBlocks blocks(p);
  const int64_t columns = (p.y.c + kWinogradColumns - 1) / kWinogradColumns;
  for_type(p.x.dtype, [&]<typename T>() {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t split = unit / blocks.count();
      const auto run = p.transposed ? convolve<kStridedLarge, T> : convolve<kStridedSmall, T>;
      run(p, blocks[unit % blocks.count()], split * columns / splits * kWinogradColumns,
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

void winograd_strided_gradient_unpack(const WinogradStridedWeightGradientParams& p, int64_t begin, int64_t end) {
  const WinogradGradientPlan plan(p.large.c, p.small.c);
  const int64_t parts = plan.parts_of(WinogradStridedBlocks(p).count());
  unpack_gradient<Transform>(plan, parts, p.sums, p.dw, p.small.c, p.large.c, begin, end);
}

}  // namespace gankern::cpu::GANKERN_SIMD
