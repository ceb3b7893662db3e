// bias_act on the GPU: memory moves in vectors of 16 bytes, and a thread stays with its channels, so that it reads
// their bias once and sums their gradient in registers. Two ways through memory [outer, channels, inner]:
// - planes (inner > 1): some threads share a channel and walk along its planes, one of each outer index;
// - rows (inner = 1): a thread owns the channels of one vector and walks from row to row.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "bias_act.h"

namespace gankern::cuda {

namespace {

constexpr int kThreads = 256;

template <typename T>
struct alignas(16) Vector {
  static constexpr int size = 16 / sizeof(T);
  T at[size];
};

// How a launch covers [outer, channels, inner]. A thread walks along `length`: the rows, or the vectors of all planes
// of its channel; a block takes one part of it.
struct Cover {
  int64_t outer, channels, inner;
  bool rows;
  bool aligned;            // vectors start on 16 bytes and do not run over the end of a row or a plane
  unsigned lanes, height;  // rows: threads side by side in a row, and rows. planes: threads of a channel, and channels
  int64_t length, part_length;
  unsigned blocks, parts;
  int64_t vectors;        // of a row or a plane
  int last;               // elements in the last of them
  int64_t stay;           // planes: a thread's step is some planes and `stay` vectors,
  int64_t advance, wrap;  // that is `advance` elements, and `wrap` more where it runs over the end of a plane

  Cover(int64_t outer_, int64_t channels_, int64_t inner_, int size, bool sums)
      : outer(outer_), channels(channels_), inner(inner_) {
    if (channels == 1) inner *= outer, outer = 1;
    rows = inner == 1 && channels > 1;
    const int64_t across = rows ? channels : inner;
    vectors = (across + size - 1) / size;
    last = int(across - (vectors - 1) * size);
    aligned = last == size || outer * (rows ? 1 : channels) == 1;
    if (rows) {
      const int64_t groups = (vectors + kThreads - 1) / kThreads;
      lanes = unsigned((vectors + groups - 1) / groups);
    } else {
      lanes = 1;
      while (lanes < kThreads && lanes < vectors) lanes *= 2;
    }
    height = kThreads / lanes;
    length = rows ? outer : outer * vectors;
    blocks = unsigned(rows ? (vectors + lanes - 1) / lanes : (channels + height - 1) / height);
    const int64_t step = rows ? height : lanes;
    stay = step % vectors;
    advance = step / vectors * channels * inner + stay * size;
    wrap = channels * inner - vectors * size;
    // Enough blocks to fill the machine; sums want fewer, as every block leaves a partial sum.
    const int64_t most = std::max<int64_t>(1, int64_t(processors()) * (sums ? 4 : 16) / blocks);
    const int64_t least = step * (sums ? 8 : 1);
    const int64_t wanted = std::clamp<int64_t>((length + least - 1) / least, 1, std::min<int64_t>(most, 65535));
    part_length = ((length + wanted - 1) / wanted + step - 1) / step * step;
    parts = unsigned((length + part_length - 1) / part_length);
  }

  static int processors() {
    int device = 0, count = 1;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
    return std::max(count, 1);
  }
};

template <typename T>
struct Pass {
  using Element = T;
  using A = arithmetic_t<T>;
  const T* in;
  const T* ref;
  const void* b;
  DType bias_dtype;
  T* out;
  A* partial;  // [parts, channels], or null
  BiasActConstants<A> k;

  __device__ A bias(int64_t c) const {
    if (b == nullptr) return A(0);
    switch (bias_dtype) {
      case DType::f64:
        return A(static_cast<const double*>(b)[c]);
      case DType::f32:
        return A(static_cast<const float*>(b)[c]);
      case DType::bf16:
        return A(float(static_cast<const __nv_bfloat16*>(b)[c]));
      default:
        return A(float(static_cast<const __half*>(b)[c]));
    }
  }
};

template <Activation act, typename T>
struct Forward : Pass<T> {
  using typename Pass<T>::A;
  static constexpr bool backward = false, reads_bias = true;

  __device__ A operator()(A x, A, A bias) const { return gankern::bias_act<act>(x + bias, this->k); }
};

template <Activation act, bool from_input, typename T>
struct Backward : Pass<T> {
  using typename Pass<T>::A;
  static constexpr bool backward = true, reads_bias = from_input;

  __device__ A operator()(A dy, A ref, A bias) const {
    return dy * bias_act_slope<act, from_input>(from_input ? ref + bias : ref, this->k);
  }
};

template <typename T>
__device__ __forceinline__ Vector<T> fetch(const T* from, int count, bool whole) {
  if (whole) return *reinterpret_cast<const Vector<T>*>(from);
  Vector<T> v;
#pragma unroll
  for (int e = 0; e < Vector<T>::size; ++e) v.at[e] = e < count ? from[e] : T(0.0f);
  return v;
}

// The vector of `count` elements at `at`. `bias` and `sum` hold one number for all of it, or one for each element.
template <typename P, typename A, int biases, int sums>
__device__ __forceinline__ void step(const P& pass, int64_t at, int count, bool aligned, const A (&bias)[biases],
                                     A (&sum)[sums]) {
  using T = typename P::Element;
  constexpr int V = Vector<T>::size;
  const bool whole = aligned && count == V;
  const Vector<T> in = fetch(pass.in + at, count, whole);
  Vector<T> ref = in, result;
  A part[sums] = {};  // first of the vector: long sums in float32 lose less that way
  if (P::backward && pass.ref != nullptr) ref = fetch(pass.ref + at, count, whole);
#pragma unroll
  for (int e = 0; e < V; ++e) {
    const A value = pass(A(in.at[e]), A(ref.at[e]), bias[e % biases]);
    if (P::backward && e < count) part[e % sums] += value;
    result.at[e] = T(value);
  }
#pragma unroll
  for (int e = 0; e < sums && P::backward; ++e) sum[e] += part[e];
  if (whole) {
    *reinterpret_cast<Vector<T>*>(pass.out + at) = result;
  } else {
#pragma unroll
    for (int e = 0; e < V; ++e) {
      if (e < count) pass.out[at + e] = result.at[e];
    }
  }
}

template <typename P>
__global__ void __launch_bounds__(kThreads, 4) bias_act_planes_kernel(const P pass, const Cover g) {
  using A = typename P::A;
  constexpr int V = Vector<typename P::Element>::size;
  const unsigned lane = threadIdx.x % g.lanes;
  const int64_t c = int64_t(blockIdx.x) * g.height + threadIdx.x / g.lanes;
  A sum[1] = {};
  if (c < g.channels) {
    const A bias[1] = {P::reads_bias ? pass.bias(c) : A(0)};
    const int64_t start = blockIdx.y * g.part_length;
    const int64_t end = start + g.part_length < g.length ? start + g.part_length : g.length;
    const int64_t o = (start + lane) / g.vectors;
    int64_t within = start + lane - o * g.vectors;  // vectors
    int64_t at = (o * g.channels + c) * g.inner + within * V;
    for (int64_t v = start + lane; v < end; v += g.lanes) {
      step(pass, at, within == g.vectors - 1 ? g.last : V, g.aligned, bias, sum);
      at += g.advance;
      within += g.stay;
      if (within >= g.vectors) within -= g.vectors, at += g.wrap;
    }
  }
  if constexpr (P::backward) {
    if (pass.partial == nullptr) return;
    __shared__ A sums[kThreads];
    sums[threadIdx.x] = sum[0];
    __syncthreads();
    for (unsigned half = g.lanes / 2; half > 0; half /= 2) {
      if (lane < half) sums[threadIdx.x] += sums[threadIdx.x + half];
      __syncthreads();
    }
    if (lane == 0 && c < g.channels) pass.partial[blockIdx.y * g.channels + c] = sums[threadIdx.x];
  }
}

template <typename P>
__global__ void __launch_bounds__(kThreads, 4) bias_act_rows_kernel(const P pass, const Cover g) {
  using A = typename P::A;
  constexpr int V = Vector<typename P::Element>::size;
  const unsigned lane = threadIdx.x % g.lanes, row = threadIdx.x / g.lanes;
  const int64_t vector = int64_t(blockIdx.x) * g.lanes + lane, c = vector * V;
  A sum[V] = {};
  if (row < g.height && vector < g.vectors) {
    const int count = vector == g.vectors - 1 ? g.last : V;
    A bias[V] = {};
    if constexpr (P::reads_bias) {
#pragma unroll
      for (int e = 0; e < V; ++e) bias[e] = e < count ? pass.bias(c + e) : A(0);
    }
    const int64_t start = blockIdx.y * g.part_length;
    const int64_t end = start + g.part_length < g.length ? start + g.part_length : g.length;
    for (int64_t o = start + row; o < end; o += g.height) step(pass, o * g.channels + c, count, g.aligned, bias, sum);
  }
  if constexpr (P::backward) {
    if (pass.partial == nullptr) return;
    __shared__ A sums[kThreads * V];
#pragma unroll
    for (int e = 0; e < V; ++e) sums[threadIdx.x * V + e] = sum[e];
    __syncthreads();
    for (unsigned j = threadIdx.x; j < g.lanes * V; j += kThreads) {
      A total = A(0);
      for (unsigned i = 0; i < g.height; ++i) total += sums[i * g.lanes * V + j];
      const int64_t channel = int64_t(blockIdx.x) * g.lanes * V + j;
      if (channel < g.channels) pass.partial[blockIdx.y * g.channels + channel] = total;
    }
  }
}

// db[c] = sum of partial[:, c], 32 channels and 32 rows at a time.
template <typename A>
__global__ void __launch_bounds__(1024) bias_act_sum_kernel(const A* partial, A* db, unsigned parts, int64_t channels) {
  __shared__ A sums[32][32];
  const int64_t c = int64_t(blockIdx.x) * 32 + threadIdx.x;
  A total = A(0);
  if (c < channels) {
#pragma unroll 4
    for (unsigned i = threadIdx.y; i < parts; i += 32) total += partial[i * channels + c];
  }
  sums[threadIdx.y][threadIdx.x] = total;
  __syncthreads();
  for (unsigned half = 16; half > 0; half /= 2) {
    if (threadIdx.y < half) sums[threadIdx.y][threadIdx.x] += sums[threadIdx.y + half][threadIdx.x];
    __syncthreads();
  }
  if (threadIdx.y == 0 && c < channels) db[c] = sums[0][threadIdx.x];
}

void check_launch(const std::string& op) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) throw std::runtime_error("gankern." + op + ": no launch: " + cudaGetErrorString(error));
}

template <typename P>
void launch(const P& pass, Cover g, cudaStream_t stream) {
  g.aligned &= (uintptr_t(pass.in) | uintptr_t(pass.ref) | uintptr_t(pass.out)) % 16 == 0;
  const dim3 grid(g.blocks, g.parts);
  if (g.rows) {
    bias_act_rows_kernel<P><<<grid, kThreads, 0, stream>>>(pass, g);
  } else {
    bias_act_planes_kernel<P><<<grid, kThreads, 0, stream>>>(pass, g);
  }
}

// Calls body.template operator()<act, T>() for the activation and the type.
template <typename T, typename Body>
void for_activation(Activation act, const Body& body) {
  switch (act) {
#define GANKERN_CASE(name) \
  case Activation::name:   \
    return body.template operator()<Activation::name, T>();
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

template <typename Body>
void for_types(DType dtype, Activation act, const Body& body) {
  switch (dtype) {
    case DType::f64:
      return for_activation<double>(act, body);
    case DType::f32:
      return for_activation<float>(act, body);
    case DType::bf16:
      return for_activation<__nv_bfloat16>(act, body);
    case DType::f16:
      return for_activation<__half>(act, body);
  }
}

Cover cover_of(const BiasActBackwardParams& p) {
  const int vector = p.dtype == DType::f64 ? 2 : p.dtype == DType::f32 ? 4 : 8;
  return Cover(p.outer, p.channels, p.inner, vector, p.db != nullptr);
}

template <Activation act, bool from_input, typename T>
void launch_backward(const BiasActBackwardParams& p, void* workspace, cudaStream_t stream) {
  using A = arithmetic_t<T>;
  const Cover g = cover_of(p);
  A* const db = static_cast<A*>(p.db);
  A* const partial = db == nullptr || g.parts == 1 ? db : static_cast<A*>(workspace);
  const BiasActConstants<A> k(p.alpha, p.gain, p.clamp);
  const T *dy = static_cast<const T*>(p.dy), *ref = static_cast<const T*>(p.ref);
  launch(Backward<act, from_input, T>{dy, ref, p.b, p.bias_dtype, static_cast<T*>(p.dx), partial, k}, g, stream);
  if (partial != db) {
    const unsigned blocks = unsigned((g.channels + 31) / 32);
    bias_act_sum_kernel<A><<<blocks, dim3(32, 32), 0, stream>>>(partial, db, g.parts, g.channels);
  }
}

}  // namespace

void bias_act(const BiasActParams& p, cudaStream_t stream) {
  for_types(p.dtype, p.act, [&]<Activation act, typename T>() {
    const BiasActConstants<arithmetic_t<T>> k(p.alpha, p.gain, p.clamp);
    const Cover g(p.outer, p.channels, p.inner, Vector<T>::size, false);
    const T* x = static_cast<const T*>(p.x);
    launch(Forward<act, T>{x, nullptr, p.b, p.bias_dtype, static_cast<T*>(p.y), nullptr, k}, g, stream);
  });
  check_launch("bias_act");
}

size_t bias_act_backward_workspace(const BiasActBackwardParams& p) {
  const Cover g = cover_of(p);
  if (p.db == nullptr || g.parts == 1) return 0;
  return size_t(g.parts) * size_t(g.channels) * (p.dtype == DType::f64 ? sizeof(double) : sizeof(float));
}

void bias_act_backward(const BiasActBackwardParams& p, void* workspace, cudaStream_t stream) {
  for_types(p.dtype, p.act, [&]<Activation act, typename T>() {
    if constexpr (act == Activation::swish) {
      launch_backward<act, true, T>(p, workspace, stream);
    } else if constexpr (act == Activation::lrelu) {
      (p.from_input ? launch_backward<act, true, T> : launch_backward<act, false, T>)(p, workspace, stream);
    } else {
      launch_backward<act, false, T>(p, workspace, stream);
    }
  });
  check_launch("bias_act_backward");
}

}  // namespace gankern::cuda
