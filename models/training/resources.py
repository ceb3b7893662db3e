"""How much memory a run uses."""

from pathlib import Path

import torch

GIB = 2**30


def memory_gb(device: torch.device) -> dict[str, float]:
    """Memory in GiB by the name of its statistic; what the system does not say is left out.

    `Resources/cpu_mem_gb` is what this process holds now, `peak_cpu_mem_gb` the most it ever held (processes that read
    images not counted). On a GPU, `peak_gpu_mem_gb` is the most that tensors took since the last call, and
    `peak_gpu_mem_reserved_gb` the most that PyTorch kept for them.
    """
    found = {}
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        lines = []
    kib = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines) if "kB" in value}
    for name, statistic in (("VmRSS", "cpu_mem_gb"), ("VmHWM", "peak_cpu_mem_gb")):
        if name in kib:
            found[f"Resources/{statistic}"] = kib[name] * 1024 / GIB
    if device.type == "cuda":
        found["Resources/peak_gpu_mem_gb"] = torch.cuda.max_memory_allocated(device) / GIB
        found["Resources/peak_gpu_mem_reserved_gb"] = torch.cuda.max_memory_reserved(device) / GIB
        torch.cuda.reset_peak_memory_stats(device)
    return found
