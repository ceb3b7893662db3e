#pragma once

#include <algorithm>

#include "../math/winograd_strided.h"
#include "simd.h"
#include "winograd.h"

// As at stride 1. Of many tiles the units of winograd_strided_conv2d are each one of WinogradStridedBlocks and one of
// `splits` parts of the output channels; of few those of winograd_strided_few_multiply columns of output channels times
// `splits` parts of the images. The weight gradient has blocks in the place of groups of tiles; units of transforms are
// plan.channel_units().
namespace gankern::cpu {

inline bool winograd_strided_few(const WinogradStridedConv2dParams& p) {
  return p.tiles.count() <= std::clamp<int64_t>(p.x.c / 4, 16, 64);
}

// What the largest block of the weight gradient takes in the transform domain.
struct WinogradStridedGradientFloats {
  int64_t v, d;
};

}  // namespace gankern::cpu

GANKERN_DECLARE_PER_LEVEL(
    void winograd_strided_few_transform(const WinogradStridedConv2dParams& p, int64_t begin, int64_t end);
    void winograd_strided_few_multiply(const WinogradStridedConv2dParams& p, int64_t splits, int64_t begin,
                                       int64_t end);
    int64_t winograd_strided_few_floats(const WinogradStridedConv2dParams& p);
    void winograd_strided_weight(const WinogradStridedConv2dParams& p, int64_t begin, int64_t end);
    void winograd_strided_conv2d(const WinogradStridedConv2dParams& p, int64_t splits, int64_t begin, int64_t end);
    void winograd_strided_gradient_part(const WinogradStridedWeightGradientParams& p, int64_t begin, int64_t end);
    void winograd_strided_gradient_transform(const WinogradStridedWeightGradientParams& p, int64_t block, int64_t begin,
                                             int64_t end);
    void winograd_strided_gradient_multiply(const WinogradStridedWeightGradientParams& p, int64_t block, int64_t begin,
                                            int64_t end);
    void winograd_strided_gradient_unit(const WinogradStridedWeightGradientParams& p, int64_t begin, int64_t end);
    WinogradStridedGradientFloats winograd_strided_gradient_floats(const WinogradStridedWeightGradientParams& p);
    void winograd_strided_gradient_unpack(const WinogradStridedWeightGradientParams& p, int64_t begin, int64_t end))

namespace gankern::cpu {

// The tiles of a block along one axis.
struct WinogradStridedAxis {
  int64_t begin, count;
};

// Some tiles of one image, or all of some images.
struct WinogradStridedBlock {
  int64_t n, images;
  WinogradStridedAxis y, x;
};

// Cuts the tiles of all images into blocks of nearly equal size, whatever the number of threads.
class WinogradStridedBlocks {
 public:
  // Many channels: enough tiles to use each weight often, for it comes from far. Few: inputs and results of the
  // products stay in the second-level cache, for there is little work on each.
  explicit WinogradStridedBlocks(const WinogradStridedConv2dParams& p)
      : WinogradStridedBlocks(p.tiles, std::clamp<int64_t>(p.x.c / 8, 16, 32)) {}
  explicit WinogradStridedBlocks(const WinogradStridedWeightGradientParams& p)
      : WinogradStridedBlocks(p.tiles, most_tiles(WinogradGradientPlan(p.large.c, p.small.c))) {}

  int64_t count() const { return parts_n_ * parts_y_ * parts_x_; }

  WinogradStridedBlock operator[](int64_t i) const {
    const WinogradStridedAxis n = part(tiles_.n, parts_n_, i / (parts_y_ * parts_x_));
    return {n.begin, n.count, part(tiles_.rows, parts_y_, i / parts_x_ % parts_y_),
            part(tiles_.columns, parts_x_, i % parts_x_)};
  }

 private:
  static constexpr int64_t kWidest = 8;  // nearly square blocks share the fewest pixels with their neighbours

  WinogradStridedBlocks(const WinogradStridedTiles& tiles, int64_t most) : tiles_(tiles) {
    parts_x_ = parts(tiles.columns, std::min(most, kWidest));
    parts_y_ = parts(tiles.rows, std::max<int64_t>(most / longest(tiles.columns, parts_x_), 1));
    const bool whole = parts_x_ * parts_y_ == 1;
    parts_n_ = parts(tiles.n, whole ? std::max<int64_t>(most / (tiles.rows * tiles.columns), 1) : 1);
  }

  // There are 81 lines for each tile instead of 36.
  static int64_t most_tiles(const WinogradGradientPlan& plan) {
    return plan.in_parts() ? plan.most_tiles() : plan.most_tiles() * 4 / 9;
  }
  static int64_t parts(int64_t size, int64_t most) { return (size + most - 1) / most; }
  static int64_t longest(int64_t size, int64_t parts) { return (size + parts - 1) / parts; }
  static WinogradStridedAxis part(int64_t size, int64_t parts, int64_t i) {
    const int64_t begin = size * i / parts;
    return {begin, size * (i + 1) / parts - begin};
  }

  WinogradStridedTiles tiles_;
  int64_t parts_n_, parts_y_, parts_x_;
};

}  // namespace gankern::cpu
