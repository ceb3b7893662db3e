// upfirdn2d on the GPU. The resampling rates of GANs, (up, down) = (1, 1), (2, 1) and (1, 2), are known to the
// compiler:
// - planes (NCHW): a block brings a tile of the input to shared memory; a thread makes a small square of the result
//   from rows that it keeps in registers;
// - pixels (channels_last): a thread owns the channels of one 16-byte vector and makes a few pixels of a row of them.
// Separable filters run along x into shared memory, then along y, in the same kernel. Any number of taps will do, as
// long as the tile fits. Upsampling reads only the taps that meet samples. Everything else is the generic kernel's.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "upfirdn2d.h"

namespace gankern::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kSharedBytes = 48 << 10;
constexpr int kChunk = 4;  // taps along x that are handled together

template <typename T, int n>
struct alignas(sizeof(T) * n) Vector {
  T at[n];
};

template <typename T>
constexpr int kVector = 16 / sizeof(T);

// One axis. In a run of outputs that starts where tap 0 meets a sample, output j meets sample offset(j) + m with tap
// first(j) + m * up, m = 0, 1, ...
template <int up_, int down_>
struct Rate {
  static constexpr int up = up_, down = down_;
  static constexpr int side = 4 / down;  // a thread makes side x side outputs

  GANKERN_HD static constexpr int offset(int j) { return (j * down + up - 1) / up; }
  GANKERN_HD static constexpr int first(int j) { return offset(j) * up - j * down; }
  // Samples that n outputs may look at.
  GANKERN_HD static constexpr int reach(int n, int taps) { return offset(n - 1) + (taps + up - 1) / up; }
  // Outputs before the image that make a run start as above, and the sample it starts with.
  static int shift(int64_t pad) { return int(pad & (up - 1)); }
  GANKERN_HD static int sample(int output, int64_t pad) { return (output * down - int(pad)) / up; }
};

// The taps in the order of a correlation, in rows of `pitch` numbers, filled up with zeros: of a 2-D filter, of the
// outer product of a separable one, or of that one along x alone.
__device__ void read_taps(const UpFirDn2dParams& p, float* to, int pitch, bool along_x) {
  const int rows = along_x ? 1 : p.taps_y;
  for (int k = threadIdx.x; k < rows * pitch; k += blockDim.x) {
    const int y = k / pitch, x = k % pitch;
    const int fy = p.flip ? y : p.taps_y - 1 - y, fx = p.flip ? x : p.taps_x - 1 - x;
    float tap = x < p.taps_x ? p.f[p.separable ? fx : fy * p.taps_x + fx] : 0.0f;
    if (p.separable && !along_x) tap *= p.f[fy];
    to[k] = tap;
  }
}

template <int unit, int n>
__device__ __forceinline__ void read(float (&to)[n], const float* from) {
  for (int i = 0; i < n; i += unit) {
    const auto v = *reinterpret_cast<const Vector<float, unit>*>(from + i);
    for (int e = 0; e < unit; ++e) to[i + e] = v.at[e];
  }
}

// sum[j][i] += the taps over the window of `tile` that starts at sample 0 of row 0. `chunk` taps along x at a time, the
// rows that the outputs share stay in registers. Absent taps are skipped, as 0 * inf would not be 0.
template <typename X, typename Y, int chunk, int ny, int nx>
__device__ __forceinline__ void filter(float (&sum)[ny][nx], const float* tile, int pitch, const float* taps,
                                       int tap_pitch, int taps_x, int taps_y) {
  constexpr int step = nx * X::down / X::up, unit = step % 4 == 0 ? 4 : 2;
  constexpr int width = (X::reach(nx, chunk) + unit - 1) / unit * unit;
  constexpr int ring = Y::offset(ny - 1) + 1;
  const int steps = (taps_y + Y::up - 1) / Y::up;
  for (int k = 0; k < taps_x; k += chunk, tile += chunk / X::up) {
    float row[ring][width];
    for (int r = 0; r < ring - 1; ++r) read<unit>(row[r], tile + r * pitch);
    for (int m0 = 0; m0 < steps; m0 += ring) {
#pragma unroll
      for (int r = 0; r < ring; ++r) {
        const int m = m0 + r;
        if (m >= steps) break;
        read<unit>(row[(r + ring - 1) % ring], tile + (m + ring - 1) * pitch);
        for (int phase = 0; phase < Y::up; ++phase) {
          const int ky = m * Y::up + phase;
          if (phase > 0 && ky >= taps_y) break;
          const auto g = *reinterpret_cast<const Vector<float, chunk>*>(taps + ky * tap_pitch + k);
          for (int e = 0; e < chunk; ++e) {
            if (e > 0 && k + e >= taps_x) break;
            for (int j = 0; j < ny; ++j) {
              for (int i = 0; i < nx; ++i) {
                if (Y::first(j) == phase && X::first(i) == e % X::up) {
                  sum[j][i] += g.at[e] * row[(r + Y::offset(j)) % ring][X::offset(i) + e / X::up];
                }
              }
            }
          }
        }
      }
    }
  }
}

// How the planes kernel covers the images: 2^lx x 2^ly threads a plane, 2^lz planes a block.
struct Planes {
  int lx, ly, lz, lload;  // 2^lload threads side by side bring in a row
  int tiles_x, tiles, planes, shift_x, shift_y;
  int width, height, pitch, middle_pitch, tap_pitch;  // of the input's tile
  int taps_at, tile_at, middle_at, bytes;             // in shared memory, in floats; all of it
  bool whole;                                         // results can be written as vectors
};

template <typename T, typename R, bool separable>
__global__ void __launch_bounds__(kThreads, 2) upfirdn2d_planes_kernel(const UpFirDn2dParams p, const Planes g) {
  constexpr int nx = R::side, ny = R::side, step = 4 / R::up;  // `step`: samples from one thread to the next
  using Unit = Rate<1, 1>;
  extern __shared__ __align__(16) float shared[];
  int64_t* const starts = reinterpret_cast<int64_t*>(shared);  // of the tile's rows, or -1
  float *const taps = shared + g.taps_at, *const tile = shared + g.tile_at, *const middle = shared + g.middle_at;
  const int tile_index = blockIdx.x % g.tiles, plane0 = int(blockIdx.x / g.tiles) << g.lz;
  const int ox0 = tile_index % g.tiles_x * (nx << g.lx) - g.shift_x;
  const int oy0 = tile_index / g.tiles_x * (ny << g.ly) - g.shift_y;
  const int sx0 = R::sample(ox0, p.pad_x), sy0 = R::sample(oy0, p.pad_y);
  const int rows = g.height << g.lz, t = threadIdx.x;

  read_taps(p, taps, g.tap_pitch, separable);
  for (int row = t; row < rows; row += blockDim.x) {
    const int plane = plane0 + row / g.height, iy = sy0 + row % g.height;
    const bool inside = plane < g.planes && iy >= 0 && iy < p.in_h;
    const int n = plane / int(p.c), c = plane % int(p.c);
    starts[row] = inside ? n * p.stride_n + c * p.stride_c + iy * p.stride_h : -1;
  }
  __syncthreads();
  const T* __restrict__ x = static_cast<const T*>(p.x);
  for (int column = t & ((1 << g.lload) - 1); column < g.width; column += 1 << g.lload) {
    const int ix = sx0 + column;
    const bool inside = ix >= 0 && ix < p.in_w;
    const int apart = blockDim.x >> g.lload;
    for (int row0 = t >> g.lload; row0 < rows; row0 += 4 * apart) {
      float v[4];
      for (int i = 0; i < 4; ++i) {
        const int row = row0 + i * apart;
        const int64_t start = inside && row < rows ? starts[row] : -1;
        v[i] = start >= 0 ? float(x[start + ix]) : 0.0f;
      }
      for (int i = 0; i < 4; ++i) {
        if (row0 + i * apart < rows) tile[(row0 + i * apart) * g.pitch + column] = v[i];
      }
    }
  }
  __syncthreads();
  if constexpr (separable) {
    for (int item = t; item < rows << g.lx; item += blockDim.x) {
      const int row = item >> g.lx, lane = item & ((1 << g.lx) - 1);
      float sum[1][nx] = {};
      filter<R, Unit, kChunk>(sum, tile + row * g.pitch + lane * step, 0, taps, 0, p.taps_x, 1);
      for (int i = 0; i < nx; ++i) middle[row * g.middle_pitch + lane * nx + i] = sum[0][i];
    }
    __syncthreads();
  }

  const int lane_x = t & ((1 << g.lx) - 1), lane_y = (t >> g.lx) & ((1 << g.ly) - 1), z = t >> (g.lx + g.ly);
  const int row = z * g.height + lane_y * step;
  float sum[ny][nx] = {};
  if constexpr (separable) {
    filter<Unit, R, 1>(sum, middle + row * g.middle_pitch + lane_x * nx, g.middle_pitch, taps, 1, 1, p.taps_y);
  } else {
    filter<R, R, kChunk>(sum, tile + row * g.pitch + lane_x * step, g.pitch, taps, g.tap_pitch, p.taps_x, p.taps_y);
  }
  const int ox = ox0 + lane_x * nx;
  if (plane0 + z >= g.planes) return;
#pragma unroll
  for (int j = 0; j < ny; ++j) {
    const int oy = oy0 + lane_y * ny + j;
    if (oy < 0 || oy >= p.out_h) continue;
    T* const y = static_cast<T*>(p.y) + ((plane0 + z) * p.out_h + oy) * p.out_w + ox;
    Vector<T, nx> result;
    for (int i = 0; i < nx; ++i) result.at[i] = T(sum[j][i] * float(p.gain));
    if (g.whole && ox < p.out_w) *reinterpret_cast<Vector<T, nx>*>(y) = result;
    for (int i = 0; i < nx && !g.whole; ++i) {
      if (ox + i >= 0 && ox + i < p.out_w) y[i] = result.at[i];
    }
  }
}

// sum[i][e] += the taps over a row of pixels from pixel `ix` on, channel by channel.
template <typename R, typename T, int nx, int V>
__device__ __forceinline__ void filter_row(float (&sum)[nx][V], const T* row, int64_t stride, int ix, int64_t in_w,
                                           const float* taps, int taps_x) {
  constexpr int width = R::reach(nx, kChunk);
  for (int k = 0; k < taps_x; k += kChunk, ix += kChunk / R::up) {
    Vector<T, V> v[width];
    for (int w = 0; w < width; ++w) {
      v[w] = {};
      if (ix + w >= 0 && ix + w < in_w) v[w] = *reinterpret_cast<const Vector<T, V>*>(row + (ix + w) * stride);
    }
    const auto g = *reinterpret_cast<const Vector<float, kChunk>*>(taps + k);
#pragma unroll
    for (int w = 0; w < width; ++w) {
      for (int c = 0; c < V; ++c) {
        const float sample = float(v[w].at[c]);
        for (int i = 0; i < nx; ++i) {
          const int e = (w - R::offset(i)) * R::up + R::first(i);  // the tap that output i has for this pixel
          if (e >= 0 && e < kChunk && (e == 0 || k + e < taps_x)) sum[i][c] += g.at[e] * sample;
        }
      }
    }
  }
}

// How the pixels kernel covers the images: 2^lc vectors of channels x 2^lx x 2^ly threads a block.
struct Pixels {
  int lc, lx, ly, groups, tiles_x;  // groups of channels, tiles of pixels
  int rows;                         // of a block, those of all images counted through
  int shift, tap_pitch;
};

template <typename T, typename R>
__global__ void __launch_bounds__(kThreads, 2) upfirdn2d_pixels_kernel(const UpFirDn2dParams p, const Pixels g) {
  constexpr int nx = R::side, V = kVector<T>;
  extern __shared__ __align__(16) float shared[];
  read_taps(p, shared, g.tap_pitch, false);
  __syncthreads();
  const int t = threadIdx.x, tile = blockIdx.x / g.groups;
  const int c = (int(blockIdx.x % g.groups << g.lc) + (t & ((1 << g.lc) - 1))) * V;
  const int lane_x = (t >> g.lc) & ((1 << g.lx) - 1);
  const int ox = ((tile % g.tiles_x << g.lx) + lane_x) * nx - g.shift, ix = R::sample(ox, p.pad_x);
  const int64_t first = int64_t(tile / g.tiles_x) * g.rows, all = p.n * p.out_h;
  const int64_t last = first + g.rows < all ? first + g.rows : all;
  if (c >= p.c) return;
  for (int64_t row = first + (t >> (g.lc + g.lx)); row < last; row += 1 << g.ly) {
    const int64_t n = row / p.out_h;
    const Phase phase = phase_of(row - n * p.out_h, p.up_y, p.down_y, p.pad_y);
    const T* x = static_cast<const T*>(p.x) + n * p.stride_n + c;
    float sum[nx][V] = {};
    int64_t iy = phase.sample;
    for (int ky = phase.first; ky < p.taps_y; ky += p.up_y, ++iy) {
      if (iy < 0 || iy >= p.in_h) continue;
      filter_row<R>(sum, x + iy * p.stride_h, p.stride_w, ix, p.in_w, shared + ky * g.tap_pitch, p.taps_x);
    }
#pragma unroll
    for (int i = 0; i < nx; ++i) {
      Vector<T, V> result;
      for (int e = 0; e < V; ++e) result.at[e] = T(sum[i][e] * float(p.gain));
      T* const y = static_cast<T*>(p.y) + (row * p.out_w + ox + i) * p.c + c;
      if (ox + i >= 0 && ox + i < p.out_w) *reinterpret_cast<Vector<T, V>*>(y) = result;
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2) upfirdn2d_generic_kernel(const UpFirDn2dParams p) {
  using A = arithmetic_t<T>;
  const uint64_t total = uint64_t(p.n * p.c * p.out_h * p.out_w), stride = uint64_t(gridDim.x) * kThreads;
  const auto tap = [&](int k, int taps) { return p.flip ? k : taps - 1 - k; };
  for (uint64_t i = blockIdx.x * uint64_t(kThreads) + threadIdx.x; i < total; i += stride) {
    const uint64_t inner = p.channels_last ? p.c : 1, pixel = i / inner;
    const uint64_t line = pixel / uint64_t(p.out_w), plane = line / uint64_t(p.out_h);
    const int64_t ox = int64_t(pixel - line * p.out_w), oy = int64_t(line - plane * p.out_h);
    const int64_t n = int64_t(p.channels_last ? plane : plane / uint64_t(p.c));
    const int64_t c = int64_t(p.channels_last ? i - pixel * inner : plane - n * p.c);
    const T* x = static_cast<const T*>(p.x) + n * p.stride_n + c * p.stride_c;
    const Phase px = phase_of(ox, p.up_x, p.down_x, p.pad_x), py = phase_of(oy, p.up_y, p.down_y, p.pad_y);
    A sum = A(0);
    int64_t iy = py.sample;
    for (int ky = py.first; ky < p.taps_y; ky += p.up_y, ++iy) {
      if (iy < 0 || iy >= p.in_h) continue;
      const float* f = p.f + (p.separable ? 0 : tap(ky, p.taps_y) * p.taps_x);
      A row = A(0);
      int64_t ix = px.sample;
      for (int kx = px.first; kx < p.taps_x; kx += p.up_x, ++ix) {
        if (ix < 0 || ix >= p.in_w) continue;
        row += A(f[tap(kx, p.taps_x)]) * A(x[iy * p.stride_h + ix * p.stride_w]);
      }
      sum += p.separable ? A(p.f[tap(ky, p.taps_y)]) * row : row;
    }
    static_cast<T*>(p.y)[i] = T(sum * A(p.gain));
  }
}

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

int round_up(int n, int unit) {
  return int(ceil_div(n, unit)) * unit;
}

// The smallest power of two that is at least n, but at most 2^most.
int log2_of(int64_t n, int most) {
  int log = 0;
  while (log < most && (int64_t(1) << log) < n) ++log;
  return log;
}

template <typename T, typename R>
bool launch_planes(const UpFirDn2dParams& p, cudaStream_t stream) {
  constexpr int nx = R::side, ny = R::side;
  if (p.stride_w != 1 && p.in_w != 1) return false;
  Planes g{};
  g.planes = int(p.n * p.c);
  g.shift_x = R::shift(p.pad_x), g.shift_y = R::shift(p.pad_y);
  g.tap_pitch = round_up(p.taps_x, kChunk);
  g.lx = log2_of(ceil_div(p.out_w + g.shift_x, nx), 5);
  g.ly = log2_of(ceil_div(p.out_h + g.shift_y, ny), 8 - g.lx);
  g.lz = log2_of(g.planes, 8 - g.lx - g.ly);
  while (true) {
    g.width = R::reach(nx << g.lx, p.taps_x), g.height = R::reach(ny << g.ly, p.taps_y);
    g.pitch = round_up(R::reach(nx << g.lx, g.tap_pitch), 4);
    g.middle_pitch = p.separable ? nx << g.lx : 0;
    const int rows = g.height << g.lz;
    g.taps_at = round_up(2 * rows, 4);  // after one int64 a row
    g.tile_at = g.taps_at + g.tap_pitch * (p.separable ? 1 : p.taps_y);
    g.middle_at = g.tile_at + rows * g.pitch;
    g.bytes = (g.middle_at + rows * g.middle_pitch) * int(sizeof(float));
    if (g.bytes <= kSharedBytes) break;
    if (g.lx + g.ly == 0 && g.lz == 0) return false;
    --(g.lz > 0 ? g.lz : g.ly == 0 || (g.lx > 0 && nx << g.lx > ny << g.ly) ? g.lx : g.ly);
  }
  g.lload = log2_of(g.width, std::min(5, g.lx + g.ly + g.lz));
  g.tiles_x = int(ceil_div(p.out_w + g.shift_x, nx << g.lx));
  g.tiles = g.tiles_x * int(ceil_div(p.out_h + g.shift_y, ny << g.ly));
  g.whole = p.out_w % nx == 0 && g.shift_x == 0 && uintptr_t(p.y) % (nx * sizeof(T)) == 0;
  const unsigned blocks = unsigned(g.tiles * ceil_div(g.planes, 1 << g.lz)), threads = 1u << (g.lx + g.ly + g.lz);
  if (p.separable) {
    upfirdn2d_planes_kernel<T, R, true><<<blocks, threads, g.bytes, stream>>>(p, g);
  } else {
    upfirdn2d_planes_kernel<T, R, false><<<blocks, threads, g.bytes, stream>>>(p, g);
  }
  return true;
}

template <typename T, typename R>
bool launch_pixels(const UpFirDn2dParams& p, cudaStream_t stream) {
  constexpr int nx = R::side, V = kVector<T>;
  const int64_t strides = p.stride_w | p.stride_h | p.stride_n;
  const bool aligned = strides % V == 0 && p.c % V == 0 && (uintptr_t(p.x) | uintptr_t(p.y)) % 16 == 0;
  const int bytes = round_up(p.taps_x, kChunk) * p.taps_y * int(sizeof(float));
  if (p.stride_c != 1 || !aligned || bytes > kSharedBytes) return false;
  Pixels g{};
  g.shift = R::shift(p.pad_x);
  g.tap_pitch = round_up(p.taps_x, kChunk);
  g.lc = log2_of(p.c / V / 2 + 1, 3);
  g.lx = log2_of(ceil_div(p.out_w + g.shift, nx), 2), g.ly = 8 - g.lc - g.lx;
  g.groups = int(ceil_div(p.c, V << g.lc)), g.tiles_x = int(ceil_div(p.out_w + g.shift, nx << g.lx));
  const int64_t columns = int64_t(g.groups) * g.tiles_x;
  g.rows = 4 << g.ly;
  while (g.rows > 1 << g.ly && columns * ceil_div(p.n * p.out_h, g.rows) < 1024) g.rows /= 2;
  const unsigned blocks = unsigned(columns * ceil_div(p.n * p.out_h, g.rows));
  upfirdn2d_pixels_kernel<T, R><<<blocks, kThreads, bytes, stream>>>(p, g);
  return true;
}

template <typename T, typename R>
bool launch_tiled(const UpFirDn2dParams& p, cudaStream_t stream) {
  return (p.channels_last ? launch_pixels<T, R> : launch_planes<T, R>)(p, stream);
}

template <typename T>
void launch(const UpFirDn2dParams& p, cudaStream_t stream) {
  bool done = false;
  constexpr int64_t most = int64_t(1) << 28;  // the tiled kernels count pixels and planes in 32 bits
  const bool square = p.up_x == p.up_y && p.down_x == p.down_y && std::max({p.in_h, p.in_w, p.out_h, p.out_w}) < most &&
                      std::max(std::abs(p.pad_x), std::abs(p.pad_y)) < most && p.n * p.c < most;
  if constexpr (sizeof(T) < 8) {
    if (square && p.up_x == 1 && p.down_x == 1) done = launch_tiled<T, Rate<1, 1>>(p, stream);
    if (square && p.up_x == 2 && p.down_x == 1) done = launch_tiled<T, Rate<2, 1>>(p, stream);
    if (square && p.up_x == 1 && p.down_x == 2) done = launch_tiled<T, Rate<1, 2>>(p, stream);
  }
  if (!done) {
    const int64_t blocks = std::min<int64_t>(ceil_div(p.n * p.c * p.out_h * p.out_w, kThreads), 1 << 20);
    upfirdn2d_generic_kernel<T><<<unsigned(blocks), kThreads, 0, stream>>>(p);
  }
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("gankern.upfirdn2d: no launch: ") + cudaGetErrorString(error));
}

}  // namespace

void upfirdn2d(const UpFirDn2dParams& p, cudaStream_t stream) {
  switch (p.dtype) {
    case DType::f64:
      return launch<double>(p, stream);
    case DType::f32:
      return launch<float>(p, stream);
    case DType::bf16:
      return launch<__nv_bfloat16>(p, stream);
    case DType::f16:
      return launch<__half>(p, stream);
  }
}

}  // namespace gankern::cuda
