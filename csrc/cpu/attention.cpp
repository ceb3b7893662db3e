// Some queries at a time, which are the lanes of the registers: all keys' weights of them stay in the second-level
// cache, their maximum and sum need no reduction across lanes, and backward makes them again.
#include "attention.h"

#include "winograd_gemm.h"
#include "winograd_memory.h"
#include "winograd_tiles.h"

namespace gankern::cpu::GANKERN_SIMD {

namespace {

constexpr int64_t kQueries = kBlockColumns;

using V = decltype(Lanes::v);

// e^x for x <= 0 (or NaN), to 2 units in the last place; what would be below 1e-37 is about that.
V exponential(V x) {
  typedef int32_t Integers __attribute__((vector_size(sizeof(V))));
  constexpr float kLog2e = 1.44269504f, kHigh = 0.693359375f, kLow = -2.12194440e-4f;  // ln 2 in two parts
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves an integer in the low bits
  x = x < -86.0f ? Lanes::fill(-86.0f).v : x;
  const V shifted = x * kLog2e + kRound, whole = shifted - kRound;
  const V r = x - whole * kHigh - whole * kLow;
  V y = Lanes::fill(1.9875691500e-4f).v;  // Cephes' polynomial: (e^r - 1 - r) / r^2
  y = y * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * r * r + r + 1.0f;
  const Integers power = (reinterpret_cast<Integers>(shifted) << 23) + (127 << 23);
  return y * reinterpret_cast<V>(power);
}

// Rows of so many numbers, turned: to [numbers][kQueries], times a factor; zeros in the place of rows that are missing.
void turn(const float* from, int64_t rows, int64_t numbers, float factor, float* to) {
  for (int64_t r = 0; r < kQueries; r += kLanes) {
    for (int64_t c = 0; c < numbers; c += kLanes) {
      Lanes square[kLanes];
      for (int j = 0; j < kLanes; ++j) {
        square[j] = r + j < rows ? Lanes::load(from + (r + j) * numbers + c, 0, numbers - c) : Lanes::fill(0);
      }
      transpose(square);
      for (int64_t j = 0; j < std::min<int64_t>(kLanes, numbers - c); ++j) {
        Lanes{square[j].v * factor}.store(to + (c + j) * kQueries + r);
      }
    }
  }
}

// [numbers][kQueries] back to rows, as many as there are.
void turn_back(const float* from, int64_t rows, int64_t numbers, float* to) {
  for (int64_t r = 0; r < rows; r += kLanes) {
    for (int64_t c = 0; c < numbers; c += kLanes) {
      Lanes square[kLanes];
      for (int j = 0; j < kLanes; ++j) {
        square[j] = c + j < numbers ? Lanes::load(from + (c + j) * kQueries + r) : Lanes::fill(0);
      }
      transpose(square);
      for (int64_t j = 0; j < std::min<int64_t>(kLanes, rows - r); ++j) {
        square[j].store(to + (r + j) * numbers + c, 0, numbers - c);
      }
    }
  }
}

int64_t panels(int64_t numbers) {
  return (numbers + kBlockColumns - 1) / kBlockColumns;
}

// Rows of so many numbers as panels [panel][kQueries][kBlockColumns]: each row times its factor, zeros beyond.
void to_panels(const float* from, int64_t rows, int64_t numbers, const float* factors, float* to) {
  for (int64_t c = 0; c < panels(numbers) * kBlockColumns; c += kLanes) {
    float* column = to + c / kBlockColumns * kQueries * kBlockColumns + c % kBlockColumns;
    for (int64_t r = 0; r < kQueries; ++r, column += kBlockColumns) {
      const Lanes row = r < rows ? Lanes::load(from + r * numbers + c, 0, numbers - c) : Lanes::fill(0);
      Lanes{row.v * factors[r]}.store(column);
    }
  }
}

// A block of queries of one sample, and its memory.
class Block {
 public:
  explicit Block(const AttentionParams& p) : p_(p) {
    const int64_t columns = kBlockColumns * (panels(p.d) + panels(p.e)), widest = std::max(p.d, p.e);
    float* memory = workspace(kQueries * (2 * p.s + widest + columns + 2) + 4 * kSkew);
    const auto take = [&memory](int64_t floats) { return (memory += floats) - floats; };
    weights_ = take(p.s * kQueries + kSkew), d_scores_ = take(p.s * kQueries + kSkew);
    turned_ = take(widest * kQueries), q_panels_ = take(panels(p.d) * kBlockColumns * kQueries);
    dy_panels_ = take(panels(p.e) * kBlockColumns * kQueries), ones_ = take(kQueries), inverse_ = take(kQueries);
    std::fill(ones_, ones_ + kQueries, 1.0f);
  }

  // Queries [first, first + count) of sample n.
  void forward(int64_t n, int64_t first, int64_t count) const {
    weigh(n, first, count);
    multiply({p_.v + n * p_.s * p_.e, 1, p_.e, weights_, turned_, kQueries, p_.s, false, weights_, 0}, p_.e);
    scale_rows(turned_, p_.e, inverse_);
    turn_back(turned_, count, p_.e, p_.y + (n * p_.l + first) * p_.e);
  }

  // Adds the gradients of keys and values to sums: panels of k's columns, then of v's, each [s][kBlockColumns].
  void backward(int64_t n, int64_t first, int64_t count, float* sums, bool add) const {
    const float *k = p_.k + n * p_.s * p_.d, *v = p_.v + n * p_.s * p_.e;
    const float *q = p_.q + (n * p_.l + first) * p_.d, *dy = p_.dy + (n * p_.l + first) * p_.e;
    weigh(n, first, count);
    turn(dy, count, p_.e, 1, turned_);
    multiply({v, p_.e, 1, turned_, d_scores_, kQueries, p_.e, false, turned_, 0}, p_.s);
    through_softmax();
    multiply({k, 1, p_.d, d_scores_, turned_, kQueries, p_.s, false, d_scores_, 0}, p_.d);
    for (int64_t i = 0; i < p_.d * kQueries; ++i) turned_[i] *= p_.scale;
    turn_back(turned_, count, p_.d, p_.dq + (n * p_.l + first) * p_.d);
    to_panels(q, count, p_.d, ones_, q_panels_);
    to_panels(dy, count, p_.e, inverse_, dy_panels_);
    sums = add_outer(d_scores_, q_panels_, p_.d, sums, add);
    add_outer(weights_, dy_panels_, p_.e, sums, add);
  }

 private:
  // weights_ = e^(scores - their largest), and inverse_ one over their sums.
  void weigh(int64_t n, int64_t first, int64_t count) const {
    turn(p_.q + (n * p_.l + first) * p_.d, count, p_.d, p_.scale, turned_);
    multiply({p_.k + n * p_.s * p_.d, p_.d, 1, turned_, weights_, kQueries, p_.d, false, turned_, 0}, p_.s);
    for (int64_t c = 0; c < kQueries; c += kLanes) {
      float* w = weights_ + c;
      V most = Lanes::load(w).v, sum = Lanes::fill(0).v;
      for (int64_t s = 1; s < p_.s; ++s) {
        const V score = Lanes::load(w + s * kQueries).v;
        most = score > most ? score : most;
      }
      for (int64_t s = 0; s < p_.s; ++s, w += kQueries) {
        const V weight = exponential(Lanes::load(w).v - most);
        sum += weight;
        Lanes{weight}.store(w);
      }
      Lanes{1.0f / sum}.store(inverse_ + c);
    }
  }

  // d_scores_ from the gradients of the weights, which are there: w / sum * (d - sum of w / sum * d).
  void through_softmax() const {
    for (int64_t c = 0; c < kQueries; c += kLanes) {
      const float* w = weights_ + c;
      float* d = d_scores_ + c;
      V sum = Lanes::fill(0).v;
      const V inverse = Lanes::load(inverse_ + c).v;
      for (int64_t s = 0; s < p_.s * kQueries; s += kQueries) sum += Lanes::load(w + s).v * Lanes::load(d + s).v;
      const V mean = sum * inverse;
      for (int64_t s = 0; s < p_.s * kQueries; s += kQueries) {
        Lanes{Lanes::load(w + s).v * inverse * (Lanes::load(d + s).v - mean)}.store(d + s);
      }
    }
  }

  static void scale_rows(float* rows, int64_t numbers, const float* factors) {
    for (int64_t c = 0; c < kQueries; c += kLanes) {
      const V factor = Lanes::load(factors + c).v;
      for (int64_t i = 0; i < numbers; ++i)
        Lanes{Lanes::load(rows + i * kQueries + c).v * factor}.store(rows + i * kQueries + c);
    }
  }

  // sums [panel][s][kBlockColumns] += left [s][kQueries] times the panels; the place after them.
  float* add_outer(const float* left, const float* right, int64_t numbers, float* sums, bool add) const {
    for (int64_t panel = 0; panel < panels(numbers); ++panel, sums += p_.s * kBlockColumns) {
      const float* own = right + panel * kQueries * kBlockColumns;
      multiply({left, kQueries, 1, own, sums, kBlockColumns, kQueries, add, own, 0}, p_.s);
    }
    return sums;
  }

  const AttentionParams& p_;
  float *weights_, *d_scores_;  // [s][kQueries]
  float* turned_;               // [d or e][kQueries]
  float *q_panels_, *dy_panels_, *ones_, *inverse_;
};

int64_t blocks_of_sample(const AttentionParams& p) {
  return (p.l + kQueries - 1) / kQueries;
}

}  // namespace

int64_t attention_blocks(const AttentionParams& p) {
  return p.n * blocks_of_sample(p);
}

int64_t attention_partial_floats(const AttentionParams& p) {
  return p.n * kAttentionParts * (panels(p.d) + panels(p.e)) * p.s * kBlockColumns;
}

void attention(const AttentionParams& p, int64_t begin, int64_t end) {
  const Block block(p);
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t first = unit % blocks_of_sample(p) * kQueries;
    block.forward(unit / blocks_of_sample(p), first, std::min(kQueries, p.l - first));
  }
}

void attention_backward(const AttentionParams& p, int64_t begin, int64_t end) {
  const Block block(p);
  const int64_t blocks = blocks_of_sample(p), floats = (panels(p.d) + panels(p.e)) * p.s * kBlockColumns;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t part = unit % kAttentionParts;
    const int64_t first = blocks * part / kAttentionParts, last = blocks * (part + 1) / kAttentionParts;
    float* sums = p.partial + unit * floats;
    if (first == last) std::fill(sums, sums + floats, 0.0f);
    for (int64_t i = first; i < last; ++i) {
      block.backward(unit / kAttentionParts, i * kQueries, std::min(kQueries, p.l - i * kQueries), sums, i > first);
    }
  }
}

void attention_sum(const AttentionParams& p, int64_t begin, int64_t end) {
  const int64_t panel = p.s * kBlockColumns, floats = (panels(p.d) + panels(p.e)) * panel;
  const auto write = [&](const float* sums, int64_t numbers, float factor, float* to) {
    for (int64_t s = 0; s < p.s; ++s, to += numbers) {
      for (int64_t c = 0; c < numbers; ++c) {
        const float* from = sums + c / kBlockColumns * panel + s * kBlockColumns + c % kBlockColumns;
        float sum = from[0];
        for (int64_t part = 1; part < kAttentionParts; ++part) sum += from[part * floats];
        to[c] = factor * sum;
      }
    }
  };
  for (int64_t n = begin; n < end; ++n) {
    const float* sums = p.partial + n * kAttentionParts * floats;
    write(sums, p.d, p.scale, p.dk + n * p.s * p.d);
    write(sums + panels(p.d) * panel, p.e, 1, p.dv + n * p.s * p.e);
  }
}

}  // namespace gankern::cpu::GANKERN_SIMD
