// Memory that is kept for the next call: fresh pages cost more than the work on them.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace gankern::cpu {

class KeptMemory {
 public:
  float* of(int64_t floats) {
    if (size_ < floats) {
      size_ = 0;
      memory_.reset();
      memory_.reset(static_cast<float*>(::operator new(floats * sizeof(float), kLine)));
      size_ = floats;
    }
    return memory_.get();
  }

 private:
  static constexpr std::align_val_t kLine{64};
  struct Free {
    void operator()(float* p) const { ::operator delete(p, kLine); }
  };

  std::unique_ptr<float, Free> memory_;
  int64_t size_ = 0;
};

}  // namespace gankern::cpu
