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

// The weight gradient of one chunk of channels, summed over one group of blocks.
template <typename T>
void sum_gradient(const WinogradStridedWeightGradientParams& p, const WinogradGradientUnits& units,
                  const WinogradStridedBlocks& blocks, int64_t unit) {
  const int64_t chunk = unit % units.per_group, group = unit / units.per_group;
  const int64_t i = chunk / units.o_chunks * units.inputs, o = chunk % units.o_chunks * units.outputs;
  const StridedSide large{p.large, p.tiles.pad_y, p.tiles.pad_x, p.large_scale};
  const StridedSide small{p.small, 0, 0, p.small_scale};
  const int64_t first = blocks.count() * group / units.groups, last = blocks.count() * (group + 1) / units.groups;
  const bool alone = units.groups == 1;
  static thread_local KeptMemory own;
  float* sums = alone ? own.of(units.size()) : p.partial + unit * units.size();
  for (int64_t b = first; b < last; ++b) {
    StridedLines v(blocks[b], false, units.inputs, units.inputs), d(blocks[b], false, units.outputs, kBlockColumns);
    v.data = workspace(v.floats() + d.floats());
    d.data = v.data + v.floats();
    read_strided<kStridedLarge, T>(large, i, units.inputs, v);
    read_strided<kStridedSmall, T>(small, o, units.outputs, d);
    for (int k = 0; k < kWinogradPositions; ++k) {
      float* c = sums + k * units.inputs * units.outputs;
      for (int64_t column = 0; column < units.outputs; column += kBlockColumns) {
        const float* right = d.matrix(k) + column * d.rows(k);
        multiply({v.matrix(k), 1, units.inputs, right, c + column, units.outputs, v.rows(k), b > first}, units.inputs);
      }
    }
  }
  for (int64_t c = 0; alone && c < std::min(units.inputs, p.large.c - i); ++c) {
    unpack_gradient<Transform>(units, sums, chunk, c, p.dw, p.small.c, p.large.c);
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

void winograd_strided_weight_gradient(const WinogradStridedWeightGradientParams& p, int64_t begin, int64_t end) {
  const WinogradStridedBlocks blocks(p);
  const WinogradGradientUnits units(p.large.c, p.small.c, blocks.count());
  for_type(p.large.dtype, [&]<typename T>() {
    for (int64_t unit = begin; unit < end; ++unit) sum_gradient<T>(p, units, blocks, unit);
  });
}

void winograd_strided_weight_gradient_sum(const WinogradStridedWeightGradientParams& p, int64_t begin, int64_t end) {
  const WinogradGradientUnits units(p.large.c, p.small.c, WinogradStridedBlocks(p).count());
  unpack_gradients<Transform>(units, p.partial, p.dw, p.small.c, p.large.c, begin, end);
}

}  // namespace gankern::cpu::GANKERN_SIMD
