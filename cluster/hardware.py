"""What this machine has, as far as this process may use it: cores, memory, instruction sets, GPUs. No ML imports."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path

from cluster.limits import core_limit, memory_limit
from runspec.strict import Strict

_INSTRUCTIONS = {
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx512_bf16": "avx512_bf16",
    "amx_bf16": "amx_bf16",
    "bf16": "arm_bf16",
}
"""Flags of /proc/cpuinfo, and what they are called here."""
_NVIDIA_SMI_SECONDS = 20


class Gpu(Strict):
    """One NVIDIA GPU."""

    name: str
    """As nvidia-smi has it: NVIDIA GeForce RTX 4090."""
    memory_bytes: int
    """All of its memory."""
    compute_capability: float
    """8.9 for Ada; 0 where the driver does not say."""


class Hardware(Strict):
    """One machine. Cores and memory are what this process may use, which a container limits."""

    cpu: str
    """Model name."""
    cores: int
    """Whole cores within the CPU quota and the affinity; at least 1."""
    memory_bytes: int
    """Memory within the container's limit."""
    machine_cores: int
    """Cores of the machine."""
    machine_memory_bytes: int
    """Memory of the machine."""
    instructions: tuple[str, ...]
    """Of avx2, avx512, avx512_bf16, amx_bf16, arm_bf16."""
    gpus: tuple[Gpu, ...]
    """The GPUs that CUDA_VISIBLE_DEVICES leaves visible."""

    @property
    def multiplies_bfloat16(self) -> bool:
        """Whether what computes here (the GPUs, else the CPU) multiplies bfloat16 in hardware.

        NVIDIA GPUs do from compute capability 8.0 (Ampere) on.
        """
        if self.gpus:
            return all(gpu.compute_capability >= 8 for gpu in self.gpus)
        return any(name.endswith("_bf16") for name in self.instructions)

    @property
    def limited(self) -> bool:
        """Whether a container or an affinity leaves less than the machine has."""
        return self.cores < self.machine_cores or self.memory_bytes < self.machine_memory_bytes


@cache
def detect() -> Hardware:
    """Look at this machine once; asking nvidia-smi takes up to a second."""
    import psutil

    machine_cores = os.cpu_count() or 1
    machine_memory = int(psutil.virtual_memory().total)
    name, instructions = parse_cpuinfo(_read("/proc/cpuinfo"))
    return Hardware(
        cpu=name or platform.processor() or platform.machine(),
        cores=max(1, int(min(_affinity(machine_cores), core_limit() or machine_cores))),
        memory_bytes=min(machine_memory, memory_limit() or machine_memory),
        machine_cores=machine_cores,
        machine_memory_bytes=machine_memory,
        instructions=instructions,
        gpus=visible(parse_nvidia_smi(_nvidia_smi()), os.environ.get("CUDA_VISIBLE_DEVICES")),
    )


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """Model name and instruction sets out of /proc/cpuinfo (x86: `flags`, ARM: `Features`)."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        values.setdefault(key.strip(), value.strip())
    flags = f"{values.get('flags', '')} {values.get('Features', '')}".split()
    return values.get("model name", ""), tuple(name for flag, name in _INSTRUCTIONS.items() if flag in flags)


def parse_nvidia_smi(text: str) -> tuple[tuple[str, Gpu], ...]:
    """UUID and GPU of each line of `nvidia-smi --query-gpu=uuid,name,memory.total,compute_cap --format=csv`."""
    found = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 4 and fields[0].startswith("GPU-"):
            memory, capability = _number(fields[2]), _number(fields[3])
            gpu = Gpu(name=fields[1], memory_bytes=int(memory * 2**20), compute_capability=capability)
            found.append((fields[0], gpu))
    return tuple(found)


def visible(gpus: tuple[tuple[str, Gpu], ...], cuda_visible_devices: str | None) -> tuple[Gpu, ...]:
    """The GPUs that CUDA shows under this setting: indices or UUIDs, up to the first that names none."""
    if cuda_visible_devices is None:
        return tuple(gpu for _, gpu in gpus)
    chosen: list[Gpu] = []
    for wanted in cuda_visible_devices.split(","):
        wanted = wanted.strip()
        matching = [
            gpu
            for index, (uuid, gpu) in enumerate(gpus)
            if wanted == str(index) or (wanted.startswith("GPU-") and uuid.startswith(wanted))
        ]
        if len(matching) != 1:
            break
        chosen += matching
    return tuple(chosen)


def _nvidia_smi() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    query = "--query-gpu=uuid,name,memory.total,compute_cap"
    command = [program, query, "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_NVIDIA_SMI_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):  # a driver that hangs or is half installed: no GPU to use
        return ""
    return answer.stdout if answer.returncode == 0 else ""


def _affinity(machine_cores: int) -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine_cores


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # nvidia-smi writes [N/A] for what a driver does not tell
        return 0.0


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
