"""What this machine has and this process may use: cores, memory, instruction sets, GPUs. No ML imports.

A container limits cores and memory through Linux control groups, versions 1 and 2.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

import psutil

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
_UNLIMITED_BYTES = 2**60
"""Control groups version 1 have a number near 2**63 for no limit."""


class Gpu(Strict):
    """One NVIDIA GPU."""

    name: str
    """As nvidia-smi names it: NVIDIA GeForce RTX 4090."""
    memory_bytes: int
    compute_capability: float
    """8.9 for Ada; 0 where the driver does not report it."""


class Hardware(Strict):
    """One machine. Cores and memory are what this process may use, which a container limits."""

    cpu: str
    cores: int
    """Whole cores within the CPU quota and the affinity; at least 1."""
    memory_bytes: int
    """Memory within the container's limit."""
    machine_cores: int
    machine_memory_bytes: int
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


@cache
def detect() -> Hardware:
    """Look at this machine once; asking nvidia-smi takes up to a second."""
    machine_cores = os.cpu_count() or 1
    machine_memory = int(psutil.virtual_memory().total)
    name, instructions = parse_cpuinfo(_read(Path("/proc/cpuinfo")))
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
    except (OSError, subprocess.TimeoutExpired):  # the driver hangs or is half installed: no usable GPU
        return ""
    return answer.stdout if answer.returncode == 0 else ""


def _affinity(machine_cores: int) -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine_cores


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # nvidia-smi writes [N/A] for what a driver does not report
        return 0.0


def core_limit(root: Path = Path("/")) -> float | None:
    """CPU cores that the quotas of the process's control groups allow, None without a quota.

    Args:
        root: where /proc and /sys are.
    """
    found = [_quota(*_read(folder / "cpu.max").split()) for folder in _groups(root, "")]
    for folder in _groups(root, "cpu"):
        found.append(_quota(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")))
    return min((cores for cores in found if cores), default=None)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes of memory that the process's control groups allow, None without a limit."""
    texts = [_read(folder / "memory.max") for folder in _groups(root, "")]
    texts += [_read(folder / "memory.limit_in_bytes") for folder in _groups(root, "memory")]
    limits = [int(text) for text in texts if text.isdigit()]
    return min((limit for limit in limits if 0 < limit < _UNLIMITED_BYTES), default=None)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """This process's group and its parents; inside a container only the top of the mount may exist."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        if controller and not mount.exists():
            mount = root / "sys/fs/cgroup" / controller
        inside = PurePosixPath(path.lstrip("/"))
        for group in (inside, *inside.parents):
            yield mount / group


def _quota(quota: str = "", period: str = "") -> float | None:
    """`200000 100000` is two cores; `max 100000` and a quota of -1 are no limit."""
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
