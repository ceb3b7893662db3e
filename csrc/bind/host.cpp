// gankern._host: what needs neither tensors nor torch. How the library was built, and the allocator of a CPU training.
#include <pybind11/pybind11.h>

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

}  // namespace

PYBIND11_MODULE(_host, m) {
  m.doc() = "How gankern's native library was built, and the allocator of a CPU training.";
  m.def("build_info", &build_info, "Compiler, SIMD levels built and in use, CUDA architectures, torch's version.");
  m.def("keep_freed_memory", &keep_freed_memory,
        "Makes malloc keep freed memory instead of returning it to the system; False where that is not possible.");
}
