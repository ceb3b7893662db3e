"""Builds the native backend with ninja: gankern._C (CPU), gankern._C_cuda (where nvcc is), gankern._host.

GANKERN_BUILD=auto|cpu|cuda: auto builds CUDA where nvcc and a CUDA build of torch are, cuda insists, cpu leaves it out.
TORCH_CUDA_ARCH_LIST (default "8.0 9.0"), CUDA_HOME, CXX, CXXFLAGS and MAX_JOBS are honoured. No GPU is needed.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pybind11
import torch
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

TORCH = Path(torch.__file__).parent
CSRC = Path(__file__).parent.resolve() / "csrc"
FLAGS = "-std=c++20 -O3 -fPIC -fvisibility=hidden -fopenmp-simd -fno-math-errno -fno-trapping-math"
SIMD_LEVELS = {"baseline": ""}
if os.uname().machine == "x86_64":
    SIMD_LEVELS["avx2"] = "-mavx2 -mfma"
    SIMD_LEVELS["avx512"] = "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mprefer-vector-width=512"


def find_cuda() -> Path | None:
    """Where the CUDA toolkit is, if it is to be used; says in one line what is built, and why not the rest."""
    mode = os.environ.get("GANKERN_BUILD", "auto")
    if mode not in ("auto", "cpu", "cuda"):
        sys.exit(f"gankern: GANKERN_BUILD must be auto, cpu or cuda, got '{mode}'")
    nvcc = shutil.which("nvcc", path=os.environ.get("CUDA_HOME", "/usr/local/cuda") + "/bin") or shutil.which("nvcc")
    reasons = {"nvcc was not found": nvcc is None, "this torch has no CUDA": torch.version.cuda is None}
    missing = ", ".join(reason for reason, holds in reasons.items() if holds)
    if mode == "cuda" and missing:
        sys.exit(f"gankern: GANKERN_BUILD=cuda, but {missing}")
    missing = "GANKERN_BUILD=cpu" if mode == "cpu" else missing
    print("gankern: builds the CPU kernels and", f"no CUDA kernels: {missing}" if missing else "the CUDA kernels")
    return Path(nvcc).resolve().parents[1] if nvcc and not missing else None


CUDA = find_cuda()


class NinjaBuild(build_ext):
    def build_extensions(self) -> None:
        facts = [sysconfig.get_platform(), sys.implementation.cache_tag, f"torch{torch.__version__}"]
        self.folder = CSRC.parent / "build" / "-".join([*facts, *os.environ.get("CXXFLAGS", "").split()])
        self.folder.mkdir(parents=True, exist_ok=True)
        archs = os.environ.get("TORCH_CUDA_ARCH_LIST", "8.0 9.0").replace(".", "").split() if CUDA else []
        gencode = " ".join(f"-gencode arch=compute_{arch},code=sm_{arch}" for arch in archs)
        compiler = f"{os.environ.get('CXX', 'c++')} -MMD -MF $out.d {FLAGS} {os.environ.get('CXXFLAGS', '')}"
        nvcc = f"{CUDA}/bin/nvcc -MD -MF $out.d -std=c++20 -O3 -Xcompiler -fPIC,-fvisibility=hidden {gencode}"
        rule = "rule {}\n  command = {} -c $in -o $out\n  depfile = $out.d\n  deps = gcc"
        self.lines = [rule.format("cxx", f"{compiler} $flags"), rule.format("nvcc", nvcc)]
        self.lines.append(f"rule link\n  command = {os.environ.get('CXX', 'c++')} -shared $in -o $out $flags")
        stable = f"-isystem {TORCH}/include -DTORCH_TARGET_VERSION=0x020b000000000000"  # 2.11 and every later torch
        torch_libs = f"-L{TORCH}/lib -ltorch -ltorch_cpu -lc10"
        bindings = [source for source in CSRC.glob("bind/*.cpp") if source.stem != "host"]
        loops = [source for source in CSRC.glob("cpu/*.cpp") if source.stem != "simd"]
        level = self.compile(CSRC / "cpu/simd.cpp")
        objects = [self.compile(s, f"-DGANKERN_SIMD={n} {f}", n) for s in loops for n, f in SIMD_LEVELS.items()]
        self.link("_C", [level, *objects, *(self.compile(s, stable, "cpu") for s in bindings)], torch_libs)
        if CUDA:
            objects = [self.compile(s, f"{stable} -DUSE_CUDA -isystem {CUDA}/include", "cuda") for s in bindings]
            objects += [self.compile(s, rule="nvcc") for s in CSRC.glob("cuda/*.cu")]
            self.link("_C_cuda", objects, f"{torch_libs} -ltorch_cuda -lc10_cuda -L{CUDA}/lib64 -lcudart")
        info = {"SIMD_LEVELS": " ".join(SIMD_LEVELS), "CUDA_ARCHS": " ".join(archs), "TORCH": torch.__version__}
        flags = " ".join(f"""'-DGANKERN_{name}="{value}"'""" for name, value in info.items())
        flags += f" -isystem {pybind11.get_include()} -isystem {sysconfig.get_paths()['include']}"
        self.link("_host", [level, self.compile(CSRC / "bind/host.cpp", flags)], "")
        (self.folder / "build.ninja").write_text("\n".join(self.lines) + "\n")
        jobs = [f"-j{os.environ['MAX_JOBS']}"] if "MAX_JOBS" in os.environ else []
        subprocess.run([sys.executable, "-m", "ninja", "-C", str(self.folder), *jobs], check=True)
        site = self.get_finalized_command("install").install_lib if self.editable_mode else self.build_lib
        self.copy_file("gankern/dropin/gankern.pth", site)  # beside the packages, where Python reads it as it starts

    def compile(self, source: Path, flags: str = "", variant: str = "all", rule: str = "cxx") -> str:
        output = f"{source.parent.name}-{source.stem}-{variant}.o"
        self.lines.append(f"build {output}: {rule} {str(source).replace(' ', '$ ')}\n  flags = {flags}")
        return output

    def link(self, name: str, objects: list[str], flags: str) -> None:
        path = Path(self.get_ext_fullpath(f"gankern.{name}")).resolve()
        self.lines.append(f"build {str(path).replace(' ', '$ ')}: link {' '.join(objects)}\n  flags = {flags}")


names = ["gankern._C", "gankern._host", *(["gankern._C_cuda"] if CUDA else [])]
setup(ext_modules=[Extension(name, []) for name in names], cmdclass={"build_ext": NinjaBuild})
