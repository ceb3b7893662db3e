// Some rows are resampled, and get their summand while they are in the cache: one pass over memory for every filter
// that upfirdn2d has loops for.
#include "upsample_add.h"

#include "upfirdn2d.h"

namespace gankern::cpu::GANKERN_SIMD {

namespace {

constexpr int64_t kBlock = 32768;  // elements of the rows that are resampled at once

template <typename T, typename S>
void add(T* __restrict to, const S* __restrict from, int64_t stride, int64_t n) {
  using A = arithmetic_t<T>;
  if (stride == 1) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(to[i], load(to[i]) + A(load(from[i])));
  } else {
    for (int64_t i = 0; i < n; ++i) store(to[i], load(to[i]) + A(load(from[i * stride])));
  }
}

template <typename T, typename S>
void add_rows(const UpsampleAddParams& p, int64_t begin, int64_t end) {
  const UpFirDn2dParams& r = p.resampling;
  const int64_t g = r.channels_last ? r.c : 1;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t image = row / r.out_h, n = r.channels_last ? image : image / r.c;
    const int64_t c = r.channels_last ? 0 : image % r.c;
    T* to = static_cast<T*>(r.y) + row * r.out_w * g;
    const S* from = static_cast<const S*>(p.y) + n * p.stride_n + c * p.stride_c + row % r.out_h * p.stride_h;
    if (g == 1) {
      add(to, from, p.stride_w, r.out_w);
    } else if (p.stride_c == 1 && p.stride_w == g) {
      add(to, from, 1, r.out_w * g);
    } else {
      for (int64_t x = 0; x < r.out_w; ++x) add(to + x * g, from + x * p.stride_w, p.stride_c, g);
    }
  }
}

template <typename T>
void run(const UpsampleAddParams& p, int64_t begin, int64_t end) {
  switch (p.dtype) {
    case DType::f64:
      return add_rows<T, double>(p, begin, end);
    case DType::f32:
      return add_rows<T, float>(p, begin, end);
    case DType::bf16:
      return add_rows<T, bfloat16>(p, begin, end);
    case DType::f16:
      return add_rows<T, float16>(p, begin, end);
  }
}

}  // namespace

void upsample_add(const UpsampleAddParams& p, int64_t begin, int64_t end) {
  const UpFirDn2dParams& r = p.resampling;
  const int64_t rows = 1 + kBlock / (r.out_w * (r.channels_last ? r.c : 1));
  for (int64_t row = begin; row < end; row += rows) {
    const int64_t last = end - row < rows ? end : row + rows;
    upfirdn2d(r, row, last);
    switch (r.dtype) {
      case DType::f64:
        run<double>(p, row, last);
        break;
      case DType::f32:
        run<float>(p, row, last);
        break;
      case DType::bf16:
        run<bfloat16>(p, row, last);
        break;
      case DType::f16:
        run<float16>(p, row, last);
        break;
    }
  }
}

}  // namespace gankern::cpu::GANKERN_SIMD
