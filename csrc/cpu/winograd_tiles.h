// Between images in memory and tiles in the transform domain, a run of neighbouring tiles and a register of channels at
// a time. Channels are always lanes: NCHW images are transposed on their way, through a strip that stays in the cache.
#pragma once

#include <algorithm>

#include "../math/winograd.h"
#include "vector.h"

namespace gankern::cpu::GANKERN_SIMD {

using Lanes = Vec<float>;
constexpr int kLanes = Lanes::size;
constexpr int kRun = 8;  // tiles in a run, at most
constexpr int kStripColumns = (4 * kRun + 2 + kLanes - 1) / kLanes * kLanes;

// Neighbouring tiles of one image: tile `first` of a block of tiles, and the place of its first output.
struct Run {
  int64_t n, y, x;
  int64_t first, count;
};

// Calls body(run) for the tiles [begin, end).
template <typename Body>
void for_runs(const WinogradTiles& tiles, int64_t begin, int64_t end, const Body& body) {
  for (int64_t t = begin; t < end;) {
    const int64_t column = t % tiles.columns, row = t / tiles.columns;
    const int64_t count = std::min({end - t, tiles.columns - column, int64_t(kRun)});
    body(Run{row / tiles.rows, row % tiles.rows * 4, column * 4, t - begin, count});
    t += count;
  }
}

namespace lanes {

// Exchanges the lanes of `a` whose number has the bit `s` with those of `b` that lack it.
template <int s, typename V, int... i>
GANKERN_HD void exchange(V& a, V& b, std::integer_sequence<int, i...>) {
  constexpr int n = sizeof...(i);
  const V low = {__builtin_shufflevector(a.v, b.v, ((i & s) ? n + i - s : i)...)};
  b = {__builtin_shufflevector(a.v, b.v, ((i & s) ? n + i : i + s)...)};
  a = low;
}

}  // namespace lanes

template <int s = 1, typename V>
GANKERN_HD void transpose(V* rows) {
  if constexpr (s < V::size) {
#pragma GCC unroll 16
    for (int j = 0; j < V::size; ++j) {
      if (!(j & s)) lanes::exchange<s>(rows[j], rows[j + s], std::make_integer_sequence<int, V::size>());
    }
    transpose<2 * s>(rows);
  }
}

// A strip [rows, kStripColumns, lanes] of the image's pixels from (y, x) and its channels from c; zero outside.
template <int rows, typename T>
void read_strip(const WinogradImages& image, int64_t n, int64_t y, int64_t x, int64_t columns, int64_t c,
                float* strip) {
  const T* from = static_cast<const T*>(image.data) + (n * image.c * image.h * image.w + c * image.channel());
  const int64_t channels = std::min<int64_t>(kLanes, image.c - c);
  const int64_t first = std::clamp<int64_t>(-x, 0, columns), last = std::clamp<int64_t>(image.w - x, first, columns);
  for (int row = 0; row < rows; ++row, strip += kStripColumns * kLanes) {
    const int64_t at = y + row;
    if (at < 0 || at >= image.h) {
      std::fill(strip, strip + columns * kLanes, 0.0f);
      continue;
    }
    const T* line = from + (at * image.w + x) * image.pixel();
    if (image.channels_last) {
      std::fill(strip, strip + first * kLanes, 0.0f);
      for (int64_t i = first; i < last; ++i) {
        const T* pixel = line + i * image.c;
        (channels == kLanes ? Lanes::load(pixel) : Lanes::load(pixel, 0, channels)).store(strip + i * kLanes);
      }
      std::fill(strip + last * kLanes, strip + columns * kLanes, 0.0f);
      continue;
    }
    for (int64_t i = 0; i < columns; i += kLanes) {
      if (columns - i <= 2) {  // the overlap with the next run
        for (int64_t k = i; k < columns; ++k) {
          for (int64_t j = 0; j < kLanes; ++j) {
            const bool inside = k >= first && k < last && j < channels;
            strip[k * kLanes + j] = inside ? load(line[k + j * image.channel()]) : 0.0f;
          }
        }
        break;
      }
      Lanes v[kLanes];
      const bool whole = i >= first && i + kLanes <= last && channels == kLanes;
      if (whole) {
#pragma GCC unroll 16
        for (int j = 0; j < kLanes; ++j) v[j] = Lanes::load(line + i + j * image.channel());
      } else {
        for (int j = 0; j < kLanes; ++j) {
          v[j] = j < channels ? Lanes::load(line + i + j * image.channel(), first - i, last - i) : Lanes::fill(0);
        }
      }
      transpose(v);
#pragma GCC unroll 16
      for (int j = 0; j < kLanes; ++j) v[j].store(strip + (i + j) * kLanes);
    }
  }
}

// Writes rows x columns pixels of a strip [4, kStripColumns, lanes] to the image's pixels from (y, x), channels from c.
template <typename T>
void write_strip(const WinogradImages& image, int64_t n, int64_t y, int64_t x, int64_t rows, int64_t columns, int64_t c,
                 const float* strip) {
  T* to = static_cast<T*>(image.data) + (n * image.c * image.h * image.w + c * image.channel());
  const int64_t channels = std::min<int64_t>(kLanes, image.c - c);
  for (int64_t row = 0; row < rows; ++row, strip += kStripColumns * kLanes) {
    T* line = to + ((y + row) * image.w + x) * image.pixel();
    if (image.channels_last) {
      for (int64_t i = 0; i < columns; ++i) {
        const Lanes v = Lanes::load(strip + i * kLanes);
        if (channels == kLanes) {
          v.store(line + i * image.c);
        } else {
          v.store(line + i * image.c, 0, channels);
        }
      }
      continue;
    }
    for (int64_t i = 0; i < columns; i += kLanes) {
      if (columns - i <= 2) {
        for (int64_t k = i; k < columns; ++k) {
          for (int64_t j = 0; j < channels; ++j) store(line[k + j * image.channel()], strip[k * kLanes + j]);
        }
        break;
      }
      Lanes v[kLanes];
#pragma GCC unroll 16
      for (int j = 0; j < kLanes; ++j) v[j] = Lanes::load(strip + (i + j) * kLanes);
      transpose(v);
      if (i + kLanes <= columns && channels == kLanes) {
#pragma GCC unroll 16
        for (int j = 0; j < kLanes; ++j) v[j].store(line + i + j * image.channel());
      } else {
        for (int j = 0; j < channels; ++j) v[j].store(line + i + j * image.channel(), 0, columns - i);
      }
    }
  }
}

// Tiles in the transform domain: [position][column of channels][tile][channel in the column].
struct Transformed {
  float* data;
  int64_t position, column, tile;  // distances
  int64_t width;                   // channels in a column

  float* at(int64_t t, int64_t c) const { return data + c / width * column + t * tile + c % width; }
};

// Transforms tiles [begin, end), channels [first, first + channels) of an image: inputs of 6x6 pixels with B, or
// gradients of 4x4 outputs with A. Channels that the image lacks become zeros.
template <int size, typename T>
struct Reader {
  const WinogradImages& image;
  const WinogradTiles& tiles;
  const float* scale;  // [n, c] or null

  void read(int64_t begin, int64_t end, int64_t first, int64_t channels, const Transformed& to) const {
    for_runs(tiles, begin, end, [&](const Run& run) {
      for (int64_t c = 0; c < channels; c += kLanes) read(run, first + c, to.at(run.first, c), to);
    });
  }

 private:
  void read(const Run& run, int64_t c, float* to, const Transformed& like) const {
    const int64_t y = run.y - (size == 6 ? tiles.pad_y : 0), x = run.x - (size == 6 ? tiles.pad_x : 0);
    const int64_t columns = 4 * run.count + size - 4;
    Lanes s = Lanes::fill(1);
    if (scale != nullptr) {
      s = c + kLanes <= image.c ? Lanes::load(scale + run.n * image.c + c)
                                : Lanes::load(scale + run.n * image.c + c, 0, image.c - c);
    }
    if (image.channels_last && c + kLanes <= image.c && y >= 0 && x >= 0 && y + size <= image.h &&
        x + columns <= image.w) {
      const T* from = static_cast<const T*>(image.data) + ((run.n * image.h + y) * image.w + x) * image.c + c;
      transform(from, image.w * image.c, image.c, s, run.count, to, like);
    } else if (c < image.c) {
      alignas(64) float strip[size * kStripColumns * kLanes];
      read_strip<size, T>(image, run.n, y, x, columns, c, strip);
      transform(strip, kStripColumns * kLanes, kLanes, s, run.count, to, like);
    } else {
      for (int64_t t = 0; t < run.count; ++t) {
        for (int k = 0; k < 36; ++k) Lanes::fill(0).store(to + t * like.tile + k * like.position);
      }
    }
  }

  template <typename U>
  void transform(const U* from, int64_t row, int64_t pixel, Lanes s, int64_t count, float* to,
                 const Transformed& like) const {
    using V = decltype(Lanes::v);
    for (int64_t t = 0; t < count; ++t, from += 4 * pixel, to += like.tile) {
      V d[size * size], half[6 * size], m[36];
#pragma GCC unroll 6
      for (int i = 0; i < size; ++i) {
#pragma GCC unroll 6
        for (int j = 0; j < size; ++j) d[i * size + j] = Lanes::load(from + i * row + j * pixel).v;
      }
      if (scale != nullptr) {
#pragma GCC unroll 36
        for (int i = 0; i < size * size; ++i) d[i] *= s.v;
      }
#pragma GCC unroll 6
      for (int j = 0; j < size; ++j) {
        if constexpr (size == 6) {
          winograd::input<6, 6>(d + j, half + j);
        } else {
          winograd::output_transposed<4, 4>(d + j, half + j);
        }
      }
#pragma GCC unroll 6
      for (int i = 0; i < 6; ++i) {
        if constexpr (size == 6) {
          winograd::input<1, 1>(half + 6 * i, m + 6 * i);
        } else {
          winograd::output_transposed<1, 1>(half + 4 * i, m + 6 * i);
        }
      }
#pragma GCC unroll 36
      for (int k = 0; k < 36; ++k) Lanes{m[k]}.store(to + k * like.position);
    }
  }
};

}  // namespace gankern::cpu::GANKERN_SIMD
