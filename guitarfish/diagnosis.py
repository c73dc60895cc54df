"""What a machine has, and what follows from each lack: looking and judging apart."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cluster.hardware import Hardware
from runspec.errors import GuitarfishError

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "ray",
    "deepspeed",
    "flash-attn",
    "vllm",
)
FOR_TRAINING = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets", "ray")
FOR_SERVING = ("torch", "ray", "vllm")
GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """What was found.

    Attributes:
        disk_free_bytes: by place: the working folder, the cache of models, the temporary folder.
        shared_memory_bytes: size of /dev/shm, where Ray keeps objects.
        versions: of the packages that matter; None where one is not installed.
        store_problem: why the store cannot be used, and `store_fix` what to do about it; empty where it can.
        open_files: how many files a process may hold open.
    """

    hardware: Hardware
    memory_free_bytes: int
    shared_memory_bytes: int
    disk_free_bytes: dict[str, int]
    python: str
    versions: dict[str, str | None]
    compiler: str | None
    open_files: int
    store: str
    store_problem: str
    store_fix: str


@dataclass(frozen=True)
class Lack:
    """Something that is not there, what it rules out, and the way to get it."""

    what: str
    rules_out: str
    fix: str


def look(store: str) -> Machine:
    """Look at this machine and at the store. Nothing heavy is imported."""
    import resource

    import psutil

    from cluster.cache import cache_folder
    from cluster.hardware import detect

    problem, fix = _store_problem(store)
    places = dict.fromkeys(str(place) for place in (Path.cwd(), cache_folder(), os.environ.get("TMPDIR") or "/tmp"))
    return Machine(
        hardware=detect(),
        memory_free_bytes=psutil.virtual_memory().available,
        shared_memory_bytes=shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else 0,
        disk_free_bytes={place: shutil.disk_usage(place).free for place in places if Path(place).is_dir()},
        python=platform.python_version(),
        versions={name: _version(name) for name in PACKAGES},
        compiler=next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        store=store,
        store_problem=problem,
        store_fix=fix,
    )


def _version(package: str) -> str | None:
    for name in (package, f"{package}-cpu"):  # vLLM's CPU build has a name of its own
        try:
            return version(name) + (" (CPU build)" if name != package else "")
        except PackageNotFoundError:
            continue
    return None


def _store_problem(store: str) -> tuple[str, str]:
    from cluster.storage import open_store

    try:
        open_store(store).check()
    except GuitarfishError as error:
        return error.what, error.fix
    return "", ""


def diagnose(machine: Machine) -> list[Lack]:
    """What is lacking, the gravest first. Pure."""
    return [*_of_packages(machine), *_of_store(machine), *_of_processor(machine), *_of_space(machine)]


def _of_packages(machine: Machine) -> list[Lack]:
    lacks = []
    for use, needed in (("training", FOR_TRAINING), ("serving", FOR_SERVING)):
        missing = [name for name in needed if machine.versions.get(name) is None]
        if missing:
            lacks.append(Lack(", ".join(missing), f"no {use} on this machine", "make setup"))
    torch = machine.versions.get("torch") or ""
    if machine.hardware.gpus and "+cpu" in torch:
        fix = "make setup where nvidia-smi answers, or GUITARFISH_LOCK=gpu make setup"
        lacks.append(Lack(f"a torch for the GPUs (this is {torch})", "the GPUs stay idle", fix))
    return lacks


def _of_store(machine: Machine) -> list[Lack]:
    if not machine.store_problem:
        return []
    what = f"access to the store {machine.store}: {machine.store_problem}"
    return [Lack(what, "no run can start, nothing can be published", machine.store_fix or "Name another store.")]


def _of_processor(machine: Machine) -> list[Lack]:
    hardware = machine.hardware
    if hardware.gpus:
        return []
    lacks = [
        Lack(
            "a GPU",
            "training and serving run on the CPU: models up to about 1B parameters are practical",
            "a machine with an NVIDIA GPU and its driver (nvidia-smi has to answer)",
        )
    ]
    if "avx2" not in hardware.instructions:
        lacks.append(Lack("AVX2", "vLLM's CPU build does not start: no serving here", "an x86-64 CPU since 2013"))
    if not hardware.multiplies_bfloat16:
        slow = "bfloat16 is computed in software: dtype auto trains in float32, serving is slower"
        lacks.append(Lack("AVX-512 BF16 and AMX", slow, "a newer server CPU, or a GPU"))
    return lacks


def _of_space(machine: Machine) -> list[Lack]:
    lacks = []
    if machine.memory_free_bytes < 6 * GIB:
        free = f"{machine.memory_free_bytes / GIB:.1f} GiB"
        lacks.append(Lack(f"memory ({free} free)", "two workers of the demo need 6 GiB", "end other programs"))
    if machine.shared_memory_bytes < GIB:
        slow = "Ray keeps objects on disk instead, which is slow"
        lacks.append(Lack("shared memory (/dev/shm below 1 GiB)", slow, "docker run --shm-size=2g"))
    for place, free_bytes in machine.disk_free_bytes.items():
        if free_bytes < 5 * GIB:
            free = f"{free_bytes / GIB:.1f} GiB"
            lacks.append(
                Lack(f"disk at {place} ({free} free)", "models and checkpoints may not fit", "free some space")
            )
    if machine.open_files < 4096:
        lacks.append(Lack(f"open files (limit {machine.open_files})", "Ray may run out of them", "ulimit -n 65536"))
    if machine.compiler is None:
        lacks.append(Lack("a C compiler", "torch.compile and packages without a wheel", "apt install gcc g++"))
    return lacks
