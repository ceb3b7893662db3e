// Memory that is kept for the next call: fresh pages cost more than the work on them.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace gankern::cpu {

class KeptMemory {
 public:
  float* of(int64_t floats) {
    if (size_ < floats) {
      size_ = 0;
      memory_.reset();
      const int64_t bytes = floats * int64_t(sizeof(float));
      memory_.reset(static_cast<float*>(::operator new(bytes, std::align_val_t(kPage))));
#ifdef MADV_HUGEPAGE
      if (bytes >= kPage) madvise(memory_.get(), bytes, MADV_HUGEPAGE);  // small pages cost a twentieth of the time
#endif
      size_ = floats;
    }
    return memory_.get();
  }

 private:
  static constexpr int64_t kPage = 2 << 20;
  struct Free {
    void operator()(float* p) const { ::operator delete(p, std::align_val_t(kPage)); }
  };

  std::unique_ptr<float, Free> memory_;
  int64_t size_ = 0;
};

}  // namespace gankern::cpu
