#pragma once

#include <algorithm>

#include "../math/winograd.h"
#include "simd.h"

// The convolution of few tiles: winograd_few_transform of units [begin, end) of kWinogradFewChannels input channels,
//   then winograd_few_multiply of columns of kWinogradColumns output channels times `splits` parts of the tiles.
// Of many: winograd_weight of columns [begin, end), then winograd_conv2d of units, each one block of tiles and one of
//   `splits` parts of the output channels, `blocks` times `splits` in all.
// The weight gradient of few channels: winograd_gradient_part of parts [begin, end) of plan.parts. Of many, for one
//   group of tiles after another: winograd_gradient_transform of units [begin, end) of plan.transforms(), then
//   winograd_gradient_multiply of plan.products(); or, if there is one group only, winograd_gradient_unit of
//   plan.units(), which is the end. The end of both others is winograd_gradient_unpack of plan.rows().
GANKERN_DECLARE_PER_LEVEL(
    void winograd_few_transform(const WinogradConv2dParams& p, int64_t begin, int64_t end);
    void winograd_few_multiply(const WinogradConv2dParams& p, int64_t splits, int64_t begin, int64_t end);
    void winograd_weight(const WinogradConv2dParams& p, int64_t begin, int64_t end);
    void winograd_conv2d(const WinogradConv2dParams& p, int64_t splits, int64_t begin, int64_t end);
    int64_t winograd_conv2d_blocks(const WinogradConv2dParams& p);
    void winograd_gradient_unit(const WinogradWeightGradientParams& p, int64_t begin, int64_t end);
    void winograd_gradient_part(const WinogradWeightGradientParams& p, int64_t begin, int64_t end);
    void winograd_gradient_transform(const WinogradWeightGradientParams& p, int64_t group, int64_t begin, int64_t end);
    void winograd_gradient_multiply(const WinogradWeightGradientParams& p, int64_t group, int64_t begin, int64_t end);
    void winograd_gradient_unpack(const WinogradWeightGradientParams& p, int64_t begin, int64_t end))

namespace gankern::cpu {

// Whether there are so few tiles, for so many weights, that every weight is transformed where it is used, and never
// leaves the cache.
inline bool winograd_few(const WinogradConv2dParams& p) {
  return p.x.c > 0 && p.tiles.count() <= std::clamp<int64_t>(p.x.c / 2, 16, 256);
}
constexpr int64_t kWinogradFewChannels = 32;  // of images that are transformed at a time
constexpr int64_t kWinogradDepth = 128;       // input channels that are multiplied at a time

// The sums of a weight gradient, and the memory that two images in the transform domain take to get there. Nothing here
// depends on the number of threads.
struct WinogradGradientPlan {
  static constexpr int64_t kChannels = 32, kPiece = 128;  // channels and tiles of a unit of transforms
  static constexpr int64_t kFloats = 8 << 20;             // of both images together, if so many tiles are enough
  static constexpr int64_t kNearTiles = 48, kParts = 16;
  static constexpr int64_t kBlock = 64;  // input and output channels of a unit, whose sums fit in the near cache
  static constexpr int64_t kRows = 32;   // input channels that are transformed back at a time

  int64_t inputs, outputs;  // channels, rounded up

  WinogradGradientPlan(int64_t i, int64_t o) : inputs(rounded_up(i)), outputs(rounded_up(o)) {}

  // Few channels: every thread sums parts of the tiles on its own, images and sums in its second-level cache. Many: the
  // sums are too large for that, and all threads share them.
  bool in_parts() const { return inputs * outputs <= 128 * 128; }

  // Tiles that are summed at a time: so many that the sums are seldom loaded, so few that the images stay near.
  int64_t most_tiles() const {
    return in_parts() ? kNearTiles : std::max(kFloats / (kWinogradPositions * (inputs + outputs)), kPiece);
  }
  int64_t parts_of(int64_t groups) const { return in_parts() ? std::min(kParts, groups) : 1; }
  int64_t position() const { return inputs * outputs + kWinogradSkew; }  // from the sums of one to those of the next
  int64_t sums() const { return kWinogradPositions * position(); }       // floats
  int64_t blocks(int64_t channels) const { return (channels + kBlock - 1) / kBlock; }
  int64_t units() const { return blocks(inputs) * blocks(outputs); }
  int64_t rows() const { return (inputs + kRows - 1) / kRows; }
  int64_t channel_units() const { return (inputs + outputs) / kChannels; }
  int64_t products() const { return kWinogradPositions * (outputs / kChannels); }

 private:
  static int64_t rounded_up(int64_t channels) { return (channels + kChannels - 1) / kChannels * kChannels; }
};

// At stride 1, where any tiles can be neighbours.
struct WinogradGradientGroups : WinogradGradientPlan {
  int64_t count, tiles;  // groups, and tiles in each but the last

  explicit WinogradGradientGroups(const WinogradWeightGradientParams& p) : WinogradGradientPlan(p.x.c, p.dy.c) {
    const int64_t all = p.tiles.count();
    count = (all + most_tiles() - 1) / most_tiles();
    tiles = (all + count - 1) / count;
  }

  bool at_once() const { return count == 1 && !in_parts(); }  // no sums are kept
  int64_t parts() const { return parts_of(count); }
  int64_t pieces() const { return (tiles + kPiece - 1) / kPiece; }
  int64_t transforms() const { return channel_units() * pieces(); }
  // Floats from position to position, which are not an exact power of two apart.
  int64_t v_position() const { return tiles * inputs + 16; }
  int64_t d_position() const { return tiles * outputs + 16; }
  int64_t floats() const { return kWinogradPositions * (v_position() + d_position()); }
};

}  // namespace gankern::cpu
