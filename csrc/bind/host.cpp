// gankern._host: what needs neither tensors nor torch. How the library was built, and the allocator of a CPU training.
#include <pybind11/pybind11.h>

#include <cstdint>
#include <cstring>

#include "../cpu/simd.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace py = pybind11;

namespace {

py::dict build_info() {
  py::dict info;
#ifdef __clang__
  info["compiler"] = "clang " __clang_version__;
#else
  info["compiler"] = "gcc " __VERSION__;
#endif
  info["simd_levels"] = GANKERN_SIMD_LEVELS;
  info["cuda_archs"] = GANKERN_CUDA_ARCHS;
  info["torch"] = GANKERN_TORCH;
  info["simd"] = gankern::cpu::simd_name(gankern::cpu::simd_level());
  return info;
}

// glibc returns every large block to the system when it is freed, and touching fresh pages costs several times the
// work of an elementwise op. This keeps freed memory in the process.
bool keep_freed_memory() {
#ifdef __GLIBC__
  return mallopt(M_MMAP_MAX, 0) == 1 && mallopt(M_TRIM_THRESHOLD, -1) == 1 && mallopt(M_TOP_PAD, 64 << 20) == 1;
#else
  return false;
#endif
}

uint64_t folded_product(uint64_t a, uint64_t b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// A hash of 64 bits over all bytes and their order, as fast as they are read: eight chains of folded products.
uint64_t fingerprint(uintptr_t address, size_t bytes) {
  constexpr size_t kLanes = 8, kStep = 16 * kLanes;
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15, kOther = 0xd6e8feb86659fd93;
  uint64_t lanes[kLanes];
  for (size_t i = 0; i < kLanes; ++i) lanes[i] = kOdd * (2 * i + 1);
  const auto mix = [&lanes](const char* from) {
    for (size_t i = 0; i < kLanes; ++i) {
      uint64_t words[2];
      memcpy(words, from + 16 * i, 16);
      lanes[i] = folded_product(words[0] ^ lanes[i], words[1] ^ (lanes[i] + kOdd));
    }
  };
  const char* from = reinterpret_cast<const char*>(address);
  for (; bytes - (from - reinterpret_cast<const char*>(address)) >= kStep; from += kStep) mix(from);
  char rest[kStep] = {};
  memcpy(rest, from, bytes % kStep);
  mix(rest);
  uint64_t hash = bytes;
  for (const uint64_t lane : lanes) hash = folded_product(hash ^ kOdd, lane ^ kOther) + hash;
  return hash;
}

}  // namespace

PYBIND11_MODULE(_host, m) {
  m.doc() = "How gankern's native library was built, and the allocator of a CPU training.";
  m.def("build_info", &build_info, "Compiler, SIMD levels built and in use, CUDA architectures, torch's version.");
  m.def("fingerprint", &fingerprint, py::call_guard<py::gil_scoped_release>(),
        "A hash of 64 bits of the memory at an address, of so many bytes.");
  m.def("keep_freed_memory", &keep_freed_memory,
        "Makes malloc keep freed memory instead of returning it to the system; False where that is not possible.");
}
