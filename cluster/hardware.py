"""What this machine has: cores, memory, instruction sets, GPUs; read without torch, limits of containers respected."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import psutil

from runspec.strict import Strict

INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
NO_LIMIT = 1 << 60
"""A cgroup v1 memory limit above this means that there is none."""


class Gpu(Strict):
    """One GPU, as nvidia-smi names it."""

    name: str
    memory_bytes: int


class Hardware(Strict):
    """One machine, as far as a container's limits let us use it."""

    host: str
    cpu: str
    """Model name of the CPU."""
    cores: int
    """Cores that this process may use."""
    memory_bytes: int
    """Memory that this process may use."""
    instruction_sets: list[str]
    """Those of `INSTRUCTION_SETS` that the CPU has."""
    gpus: list[Gpu]

    @property
    def multiplies_bfloat16(self) -> bool:
        """Whether the CPU multiplies in bfloat16; without it bfloat16 is several times slower than float32."""
        return "avx512_bf16" in self.instruction_sets or "amx_bf16" in self.instruction_sets

    @property
    def summary(self) -> str:
        """One line: the GPUs, or the CPU."""
        if self.gpus:
            return f"{len(self.gpus)} x {self.gpus[0].name}, {self.gpus[0].memory_bytes / 2**30:.0f} GiB each"
        return f"{self.cores} cores of {self.cpu}, {self.memory_bytes / 2**30:.0f} GiB"


def detect() -> Hardware:
    """Look at this machine."""
    name, flags = _cpu()
    return Hardware(
        host=platform.node(),
        cpu=name,
        cores=_cores(),
        memory_bytes=_memory_bytes(),
        instruction_sets=[one for one in INSTRUCTION_SETS if one in flags],
        gpus=_gpus(),
    )


def _cpu() -> tuple[str, set[str]]:
    name, flags = platform.processor() or platform.machine(), set[str]()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return name, flags
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
        elif key.strip() == "flags":
            flags = set(value.split())
            break
    return name, flags


def _cores() -> int:
    available = len(os.sched_getaffinity(0))
    quota = _quota()
    return max(1, min(available, int(quota + 0.5))) if quota else available


def _quota() -> float | None:
    """CPU cores that the cgroup allows; None without a limit."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        limit = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text()
        period = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text()
        return int(limit) / int(period) if int(limit) > 0 else None
    except (OSError, ValueError):
        return None


def _memory_bytes() -> int:
    limits = [int(psutil.virtual_memory().total)]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(file).read_text()))
        except (OSError, ValueError):  # not there, or `max`
            continue
    return min(limit for limit in limits if limit < NO_LIMIT)


def _gpus() -> list[Gpu]:
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):  # a driver that does not answer: as good as no GPU
        return []
    return [_gpu(line) for line in answer.splitlines() if "," in line]


def _gpu(line: str) -> Gpu:
    name, _, memory = line.rpartition(",")
    return Gpu(name=name.strip(), memory_bytes=int(memory) * 2**20)
