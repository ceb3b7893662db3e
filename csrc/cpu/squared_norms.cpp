#include "squared_norms.h"

namespace gankern::cpu::GANKERN_SIMD {

namespace {

// Calls body(piece, sample, first element, number of elements) for pieces [begin, end).
template <typename Body>
void for_pieces(const SquaredNormsParams& p, int64_t begin, int64_t end, const Body& body) {
  for (int64_t piece = begin; piece < end; ++piece) {
    const int64_t sample = piece / p.pieces(), first = piece % p.pieces() * kNormPiece;
    body(piece, sample, sample * p.size + first, p.size - first < kNormPiece ? p.size - first : kNormPiece);
  }
}

// Whole samples of so few elements that a loop over one would take longer to begin than to run: a 3x3 kernel each.
template <int size, typename T>
void forward_short(const SquaredNormsParams& p, double* partial, int64_t begin, int64_t end) {
  using A = arithmetic_t<T>;
  const T* __restrict x = static_cast<const T*>(p.x);
#pragma omp simd
  for (int64_t n = begin; n < end; ++n) {
    A sum = 0;
#pragma GCC unroll 16
    for (int i = 0; i < size; ++i) sum += load(x[n * size + i]) * load(x[n * size + i]);
    partial[n] = sum;
  }
}

template <int size, typename T>
void backward_short(const SquaredNormsParams& p, int64_t begin, int64_t end) {
  using A = arithmetic_t<T>;
  const T* __restrict x = static_cast<const T*>(p.x);
  T* __restrict dx = static_cast<T*>(p.dx);
  for (int64_t n = begin; n < end; ++n) {
    const A scale = 2 * static_cast<const A*>(p.dy)[n];
#pragma GCC unroll 16
    for (int i = 0; i < size; ++i) store(dx[n * size + i], scale * load(x[n * size + i]));
  }
}

// Blocks of 1024 elements are summed in the arithmetic type, the blocks in double.
template <typename T>
void forward(const SquaredNormsParams& p, double* partial, int64_t begin, int64_t end) {
  using A = arithmetic_t<T>;
  if (p.size == 9) return forward_short<9, T>(p, partial, begin, end);
  for_pieces(p, begin, end, [&](int64_t piece, int64_t, int64_t at, int64_t n) {
    const T* __restrict x = static_cast<const T*>(p.x) + at;
    double total = 0;
    for (int64_t block = 0; block < n; block += 1024) {
      const int64_t last = n - block < 1024 ? n : block + 1024;
      A sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = block; i < last; ++i) sum += load(x[i]) * load(x[i]);
      total += sum;
    }
    partial[piece] = total;
  });
}

template <typename T>
void backward(const SquaredNormsParams& p, int64_t begin, int64_t end) {
  using A = arithmetic_t<T>;
  if (p.size == 9) return backward_short<9, T>(p, begin, end);
  for_pieces(p, begin, end, [&](int64_t, int64_t sample, int64_t at, int64_t n) {
    const T* __restrict x = static_cast<const T*>(p.x) + at;
    T* __restrict dx = static_cast<T*>(p.dx) + at;
    const A scale = 2 * static_cast<const A*>(p.dy)[sample];
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(dx[i], scale * load(x[i]));
  });
}

}  // namespace

void squared_norms(const SquaredNormsParams& p, double* partial, int64_t begin, int64_t end) {
  switch (p.dtype) {
    case DType::f64:
      return forward<double>(p, partial, begin, end);
    case DType::f32:
      return forward<float>(p, partial, begin, end);
    case DType::bf16:
      return forward<bfloat16>(p, partial, begin, end);
    case DType::f16:
      return forward<float16>(p, partial, begin, end);
  }
}

void squared_norms_backward(const SquaredNormsParams& p, int64_t begin, int64_t end) {
  switch (p.dtype) {
    case DType::f64:
      return backward<double>(p, begin, end);
    case DType::f32:
      return backward<float>(p, begin, end);
    case DType::bf16:
      return backward<bfloat16>(p, begin, end);
    case DType::f16:
      return backward<float16>(p, begin, end);
  }
}

}  // namespace gankern::cpu::GANKERN_SIMD
