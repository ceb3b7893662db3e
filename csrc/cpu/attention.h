#pragma once

#include <algorithm>

#include "../math/attention.h"
#include "simd.h"

// attention: units [begin, end) of attention_blocks(p), queries of all samples.
// The backward pass: attention_backward of n times kAttentionParts parts of the queries, then attention_sum of n.
GANKERN_DECLARE_PER_LEVEL(int64_t attention_blocks(const AttentionParams& p);
                          int64_t attention_partial_floats(const AttentionParams& p);
                          void attention(const AttentionParams& p, int64_t begin, int64_t end);
                          void attention_backward(const AttentionParams& p, int64_t begin, int64_t end);
                          void attention_sum(const AttentionParams& p, int64_t begin, int64_t end))

namespace gankern::cpu {

// Into so many parts the queries of a sample are cut: each sums gradients of keys and values of its own. Not by the
// number of threads, which would change the sums.
constexpr int64_t kAttentionParts = 4;

}  // namespace gankern::cpu
