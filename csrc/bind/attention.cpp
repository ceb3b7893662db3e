// attention: Tensor -> parameters. There are kernels for the CPU only.
#ifndef USE_CUDA
#include "../cpu/attention.h"

#include <tuple>

#include "tensor.h"
#include "winograd.h"

namespace gankern::bind {

namespace {

AttentionParams params_of(const Tensor& q, const Tensor& k, const Tensor& v, double scale) {
  for (const Tensor* t : {&q, &k, &v}) {
    STD_TORCH_CHECK(
        t->dim() == 3 && t->scalar_type() == ScalarType::Float && t->is_contiguous() && t->size(0) == q.size(0),
        "gankern.attention_rows: q, k and v must be contiguous float32 [N, length, channels]");
  }
  STD_TORCH_CHECK(k.size(2) == q.size(2) && v.size(1) == k.size(1) && k.size(1) >= 1,
                  "gankern.attention_rows: k must be [N, S, D] for q [N, L, D], and v [N, S, E] with S >= 1");
  AttentionParams p{};
  p.q = static_cast<const float*>(q.const_data_ptr());
  p.k = static_cast<const float*>(k.const_data_ptr());
  p.v = static_cast<const float*>(v.const_data_ptr());
  p.n = q.size(0), p.l = q.size(1), p.s = k.size(1), p.d = q.size(2), p.e = v.size(2);
  p.scale = float(scale);
  return p;
}

}  // namespace

Tensor attention_rows(const Tensor q, const Tensor k, const Tensor v, double scale) {
  AttentionParams p = params_of(q, k, v, scale);
  Tensor y = torch::stable::new_empty(q, {p.n, p.l, p.e});
  if (y.numel() == 0) return y;
  p.y = static_cast<float*>(y.mutable_data_ptr());
  using namespace cpu;
  parallel_for(0, GANKERN_CALL_BEST(attention_blocks, p), 1,
               [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(attention, p, begin, end); });
  return y;
}

std::tuple<Tensor, Tensor, Tensor> attention_rows_backward(const Tensor dy, const Tensor q, const Tensor k,
                                                           const Tensor v, double scale) {
  AttentionParams p = params_of(q, k, v, scale);
  STD_TORCH_CHECK(dy.scalar_type() == ScalarType::Float && dy.is_contiguous() && dy.numel() == p.n * p.l * p.e,
                  "gankern.attention_rows_backward: dy must be contiguous float32 [N, L, E]");
  Tensor dq = torch::stable::empty_like(q), dk = torch::stable::empty_like(k), dv = torch::stable::empty_like(v);
  p.dy = static_cast<const float*>(dy.const_data_ptr());
  p.dq = static_cast<float*>(dq.mutable_data_ptr());
  p.dk = static_cast<float*>(dk.mutable_data_ptr());
  p.dv = static_cast<float*>(dv.mutable_data_ptr());
  using namespace cpu;
  p.partial = kept_memory(GANKERN_CALL_BEST(attention_partial_floats, p));
  parallel_for(0, p.n * kAttentionParts, 1,
               [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(attention_backward, p, begin, end); });
  parallel_for(0, p.n, 1, [&](int64_t begin, int64_t end) { GANKERN_CALL_BEST(attention_sum, p, begin, end); });
  return {dq, dk, dv};
}

STABLE_TORCH_LIBRARY_IMPL(gankern, CPU, m) {
  m.impl("attention_rows", TORCH_BOX(&attention_rows));
  m.impl("attention_rows_backward", TORCH_BOX(&attention_rows_backward));
}

}  // namespace gankern::bind
#endif
