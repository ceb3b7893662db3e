// Between small and large images in memory and the lines of the transform domain, as winograd_tiles.h.
#pragma once

#include "winograd_memory.h"
#include "winograd_strided.h"
#include "winograd_tiles.h"

namespace gankern::cpu::GANKERN_SIMD {

// Positions of an axis: 0 to 3 are finite points, of one line for every tile, then infinity, and the plain one, of four
// lines for every tile.
constexpr int kAxisPositions = 6, kInfinity = 4, kPlain = 5;
constexpr int kStridedRun = 4;  // tiles in a run, at most: their 33 large pixels fit in a strip

// The lines of a block along an axis. Where it needs the share of the tiles before its first ones, infinity has one
// line more, in front.
struct StridedAxis {
  int64_t begin, count;  // tiles
  bool before;

  StridedAxis(const WinogradStridedAxis& a, bool overlapping)
      : begin(a.begin), count(a.count), before(overlapping && a.begin > 0) {}

  int64_t lines(int position) const {
    return position == kPlain ? 4 * count : position == kInfinity ? count + before : count;
  }

  // Line 0 to 8 of a tile: its position, and which of the position's lines it is.
  static int position(int line) { return line < kPlain ? line : kPlain; }
  int64_t index(int line, int64_t tile) const {
    return line < kInfinity ? tile : line == kInfinity ? tile + before : 4 * tile + line - kPlain;
  }
};

// A block in the transform domain: for every position of weights a matrix, [column of channels][row][channel in it],
// whose rows are [image][line of y][line of x].
class StridedLines {
 public:
  // `data` is set later.
  StridedLines(const WinogradStridedBlock& block, bool overlapping, int64_t channels, int64_t width)
      : y(block.y, overlapping), x(block.x, overlapping), first_image(block.n), images(block.images), width_(width) {
    for (int k = 0; k < kWinogradPositions; ++k) {
      rows_[k] = images * y.lines(k / kAxisPositions) * x.lines(k % kAxisPositions);
      offset_[k] = floats_;
      floats_ += rows_[k] * rounded_up(channels, width) + kSkew;
    }
  }

  StridedAxis y, x;
  int64_t first_image, images;
  float* data = nullptr;

  int64_t floats() const { return floats_; }
  int64_t width() const { return width_; }
  int64_t rows(int k) const { return rows_[k]; }
  float* matrix(int k) const { return data + offset_[k]; }

  // The first line of x, of an image and a line of y.
  float* at(int position_y, int position_x, int64_t image, int64_t index_y, int64_t c) const {
    const int k = position_y * kAxisPositions + position_x;
    const int64_t row = (image * y.lines(position_y) + index_y) * x.lines(position_x);
    return matrix(k) + (c / width_ * rows_[k] + row) * width_ + c % width_;
  }

 private:
  int64_t width_, floats_ = 0;
  int64_t rows_[kWinogradPositions], offset_[kWinogradPositions];
};

// One side of the convolution, the large or the small image, with its scale [n, c] or null.
struct StridedSide {
  const WinogradImages& image;
  int64_t pad_y, pad_x;  // of the large image; 0
  const float* scale;

  Lanes scale_of(int64_t n, int64_t c) const {
    return scale == nullptr ? Lanes::fill(1) : Lanes::load(scale + n * image.c + c, 0, image.c - c);
  }
};

// Transforms `height` x `width` pixels of every tile: 9x9 of a large image, 4x4 of a small one; 1 for the last pixel of
// the tiles before the block's, which is all that infinity sees of them.
template <int height, int width, typename T>
struct StridedReader {
  const StridedSide& side;
  const StridedLines& to;

  static constexpr int kLinesY = height == 1 ? 1 : kStridedLines, kLinesX = width == 1 ? 1 : kStridedLines;

  // Channels [c, c + lanes) of the image as those from `column` on.
  void read(int64_t n, int64_t tile_y, int64_t tile_x, int64_t count, int64_t c, int64_t column) const {
    const WinogradImages& image = side.image;
    const int64_t y = origin<height>(to.y, tile_y) - side.pad_y, x = origin<width>(to.x, tile_x) - side.pad_x;
    const int64_t columns = step(width) * (count - 1) + width;
    if (image.channels_last && c + kLanes <= image.c && y >= 0 && x >= 0 && y + height <= image.h &&
        x + columns <= image.w) {
      const T* from = static_cast<const T*>(image.data) + ((n * image.h + y) * image.w + x) * image.c + c;
      transform(from, image.w * image.c, image.c, n, tile_y, tile_x, count, c, column);
    } else {
      alignas(64) float strip[height * kStripColumns * kLanes];
      if (c < image.c) {
        read_strip<height, T>(image, n, y, x, columns, c, strip);
      } else {
        std::fill(strip, strip + height * kStripColumns * kLanes, 0.0f);
      }
      transform(strip, kStripColumns * kLanes, kLanes, n, tile_y, tile_x, count, c, column);
    }
  }

 private:
  static constexpr int64_t step(int size) { return size == kStridedLarge ? 8 : 4; }

  template <int size>
  static int64_t origin(const StridedAxis& axis, int64_t tile) {
    return size == 1 ? 4 * axis.begin - 1 : step(size) * (axis.begin + tile);
  }

  template <int size, int from, typename V>
  static void transform_line(const V* d, V* m) {
    if constexpr (size == kStridedLarge) {
      winograd_strided::large<from, 1>(d, m);
    } else if constexpr (size == kStridedSmall) {
      winograd_strided::small<from, 1>(d, m);
    } else {
      m[0] = d[0];
    }
  }

  template <typename U>
  void transform(const U* from, int64_t row, int64_t pixel, int64_t n, int64_t tile_y, int64_t tile_x, int64_t count,
                 int64_t c, int64_t column) const {
    using V = decltype(Lanes::v);
    const Lanes scale = c < side.image.c ? side.scale_of(n, c) : Lanes::fill(1);
    float* lines[kLinesY][kAxisPositions];
    for (int i = 0; i < kLinesY; ++i) {
      const int position = height == 1 ? kInfinity : StridedAxis::position(i);
      const int64_t index = height == 1 ? 0 : to.y.index(i, tile_y);
      for (int k = width == 1 ? kInfinity : 0; k < (width == 1 ? kPlain : kAxisPositions); ++k) {
        lines[i][k] = to.at(position, k, n - to.first_image, index, column);
      }
    }
    for (int64_t t = 0; t < count; ++t, from += step(width) * pixel) {
      V half[width * kLinesY];  // [x][line of y]
#pragma GCC unroll 9
      for (int j = 0; j < width; ++j) {
        V d[height];
#pragma GCC unroll 9
        for (int i = 0; i < height; ++i) d[i] = Lanes::load(from + i * row + j * pixel).v * scale.v;
        transform_line<height, 1>(d, half + j * kLinesY);
      }
      for (int i = 0; i < kLinesY; ++i) {
        V m[kLinesX];
        transform_line<width, kLinesY>(half + i, m);
        if constexpr (width == 1) {
          Lanes{m[0]}.store(lines[i][kInfinity]);
        } else {
#pragma GCC unroll 9
          for (int j = 0; j < kStridedLines; ++j) {
            Lanes{m[j]}.store(lines[i][StridedAxis::position(j)] + to.x.index(j, tile_x + t) * to.width());
          }
        }
      }
    }
  }
};

// Calls body(image, tile_y, tile_x, count) for all runs of tiles of a block.
template <typename Body>
void for_strided_runs(const StridedLines& lines, const Body& body) {
  for (int64_t n = lines.first_image; n < lines.first_image + lines.images; ++n) {
    for (int64_t y = 0; y < lines.y.count; ++y) {
      for (int64_t x = 0; x < lines.x.count; x += kStridedRun) {
        body(n, y, x, std::min<int64_t>(kStridedRun, lines.x.count - x));
      }
    }
  }
}

// Transforms a block of an image, channels [first, first + channels), into those from `column` on; those that it lacks
// become zeros.
template <int size, typename T>
void read_strided(const StridedSide& side, int64_t first, int64_t channels, const StridedLines& to,
                  int64_t column = 0) {
  for_strided_runs(to, [&](int64_t n, int64_t y, int64_t x, int64_t count) {
    for (int64_t c = 0; c < channels; c += kLanes) {
      StridedReader<size, size, T>{side, to}.read(n, y, x, count, first + c, column + c);
      if constexpr (size == kStridedSmall) {
        const bool above = to.y.before && y == 0, left = to.x.before && x == 0;
        if (above) StridedReader<1, size, T>{side, to}.read(n, y, x, count, first + c, column + c);
        if (left) StridedReader<size, 1, T>{side, to}.read(n, y, x, 1, first + c, column + c);
        if (above && left) StridedReader<1, 1, T>{side, to}.read(n, y, x, 1, first + c, column + c);
      }
    }
  });
}

// Transforms back `count` tiles of a block into images, `lines` being of channels from c on: the column `column` there.
template <int size, typename T>
class StridedWriter {
 public:
  StridedWriter(const StridedSide& side, const WinogradStridedTiles& tiles, const StridedLines& lines)
      : side_(side), tiles_(tiles), lines_(lines) {}

  void write(int64_t n, int64_t tile_y, int64_t tile_x, int64_t count, int64_t c, int64_t column) const {
    // The rest is for the registers that reach over the last pixel of the last row.
    alignas(64) float strip[(size * kStripColumns + 2) * kLanes];
    transform(n, tile_y, tile_x, count, c, column, strip);
    const int64_t y = lines_.y.begin + tile_y, x = lines_.x.begin + tile_x;
    const WinogradImages& image = side_.image;
    if constexpr (size == kStridedSmall) {
      write_strip<T>(image, n, 4 * y, 4 * x, std::min<int64_t>(4, image.h - 4 * y),
                     std::min(4 * count, image.w - 4 * x), c, strip);
    } else {
      // The last tile writes the pixel that it would share with the next one.
      const int64_t rows = 8 + (y + 1 == tiles_.rows), columns = 8 * count + (x + count == tiles_.columns);
      const int64_t top = y == 0 ? side_.pad_y : 0, left = x == 0 ? side_.pad_x : 0;
      const int64_t at_y = 8 * y - side_.pad_y + top, at_x = 8 * x - side_.pad_x + left;
      write_strip<T>(image, n, at_y, at_x, std::min(rows - top, image.h - at_y),
                     std::min(columns - left, image.w - at_x), c, strip + (top * kStripColumns + left) * kLanes);
    }
  }

 private:
  void transform(int64_t n, int64_t tile_y, int64_t tile_x, int64_t count, int64_t c, int64_t column,
                 float* strip) const {
    using V = decltype(Lanes::v);
    constexpr bool large = size == kStridedLarge;
    const Lanes scale = side_.scale_of(n, c);
    const bool above = large && lines_.y.index(kInfinity, tile_y) > 0;
    const float* lines[kStridedLines + 1][kAxisPositions];  // the last one is infinity of the tiles above
    for (int i = 0; i < kStridedLines + above; ++i) {
      const int line = i < kStridedLines ? i : kInfinity;
      const int64_t index = lines_.y.index(line, tile_y) - (i == kStridedLines);
      for (int k = 0; k < kAxisPositions; ++k) {
        lines[i][k] = lines_.at(StridedAxis::position(line), k, n - lines_.first_image, index, column);
      }
    }
    for (int64_t t = tile_x; t < tile_x + count; ++t, strip += (large ? 8 : 4) * kLanes) {
      const bool left = large && lines_.x.index(kInfinity, t) > 0;
      V half[(kStridedLines + 1) * size];  // [line of x][y]; the last one is infinity of the tile on the left
      for (int j = 0; j < kStridedLines + left; ++j) {
        const int line = j < kStridedLines ? j : kInfinity, k = StridedAxis::position(line);
        const int64_t at = (lines_.x.index(line, t) - (j == kStridedLines)) * lines_.width();
        V m[kStridedLines];
#pragma GCC unroll 9
        for (int i = 0; i < kStridedLines; ++i) m[i] = Lanes::load(lines[i][k] + at).v;
        transform_line<1>(m, half + j * size);
        if (above) half[j * size] += Lanes::load(lines[kStridedLines][k] + at).v;
      }
      for (int i = 0; i < size; ++i) {
        V y[size];
        transform_line<size>(half + i, y);
        if (left) y[0] += half[kStridedLines * size + i];
#pragma GCC unroll 9
        for (int j = 0; j < size; ++j) Lanes{y[j] * scale.v}.store(strip + (i * kStripColumns + j) * kLanes);
      }
    }
  }

  template <int from, typename V>
  static void transform_line(const V* m, V* y) {
    if constexpr (size == kStridedLarge) {
      winograd_strided::large_transposed<from, 1>(m, y);
    } else {
      winograd_strided::small_transposed<from, 1>(m, y);
    }
  }

  const StridedSide& side_;
  const WinogradStridedTiles& tiles_;
  const StridedLines& lines_;
};

}  // namespace gankern::cpu::GANKERN_SIMD
