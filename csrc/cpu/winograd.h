#pragma once

#include <algorithm>

#include "../math/winograd.h"
#include "simd.h"

// winograd_weight: columns of kWinogradColumns output channels [begin, end).
// winograd_conv2d: units [begin, end), each one block of tiles and one of `splits` parts of the output
//   channels, `blocks` times `splits` in all.
// winograd_weight_gradient: units [begin, end) of WinogradGradientUnits into `partial`; _sum: input channels of dw.
GANKERN_DECLARE_PER_LEVEL(
    void winograd_weight(const WinogradWeightParams& p, int64_t begin, int64_t end);
    void winograd_conv2d(const WinogradConv2dParams& p, int64_t splits, int64_t begin, int64_t end);
    int64_t winograd_conv2d_blocks(const WinogradConv2dParams& p);
    void winograd_weight_gradient(const WinogradWeightGradientParams& p, int64_t begin, int64_t end);
    void winograd_weight_gradient_sum(const WinogradWeightGradientParams& p, int64_t begin, int64_t end))

namespace gankern::cpu {

// The work of the weight gradient, in units that do not depend on the number of threads: chunks of input and output
// channels, whose sums stay in the cache, times groups of tiles, where the chunks alone would be too few.
struct WinogradGradientUnits {
  static constexpr int64_t kChannels = 128, kWanted = 16, kTiles = 48;

  int64_t i_chunks, o_chunks, per_group, groups;
  int64_t inputs, outputs;  // channels in a chunk

  // Of i and o channels, and of tiles in so many pieces.
  WinogradGradientUnits(int64_t i, int64_t o, int64_t pieces)
      : i_chunks((i + kChannels - 1) / kChannels), o_chunks((o + kChannels - 1) / kChannels) {
    per_group = i_chunks * o_chunks;
    inputs = chunk(i, i_chunks), outputs = chunk(o, o_chunks);
    groups = std::clamp<int64_t>((kWanted + per_group - 1) / per_group, 1, pieces);
  }

  explicit WinogradGradientUnits(const WinogradWeightGradientParams& p)
      : WinogradGradientUnits(p.x.c, p.dy.c, (p.tiles.count() + kTiles - 1) / kTiles) {}

  int64_t count() const { return groups * per_group; }
  int64_t size() const { return kWinogradPositions * inputs * outputs; }  // floats of one unit's sums

 private:
  static int64_t chunk(int64_t channels, int64_t chunks) {
    return ((channels + chunks - 1) / chunks + kWinogradColumns - 1) / kWinogradColumns * kWinogradColumns;
  }
};

}  // namespace gankern::cpu
