// fade: parameters. y = alpha * high + (1 - alpha) * low.
#pragma once

#include "numeric.h"

namespace gankern {

// What a pass over memory does. Of `half` and `detail` a unit is a pair of rows, of `same` an element.
enum class Fade { same, half, detail, backward_same, backward_half };

struct FadeParams {
  Fade kind;
  DType dtype;
  const void* in;           // [planes, h, w, g]: new, or dy
  const void* low;          // old, dense in the same layout: [planes, h, w, g], or for `half` [planes, h / 2, w / 2, g]
  void* out;                // y, or dnew
  void* low_out;            // dold
  int64_t planes, h, w, g;  // g channels side by side: 1, or all for channels_last
  double alpha;

  bool by_element() const { return kind == Fade::same || kind == Fade::backward_same; }
  int64_t units() const { return by_element() ? planes * h * w * g : planes * (h / 2); }
};

}  // namespace gankern
