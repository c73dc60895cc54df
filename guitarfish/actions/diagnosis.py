"""What a machine has, what is missing on it and with what effect, and what a run file can ask of it.

`look` reads the machine; everything after it is pure. Nothing heavy is imported.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from cluster.machine.cache import cache_folder
from cluster.machine.hardware import Gpu, Hardware, detect
from cluster.store.storage import open_store
from runspec.errors import GuitarfishError
from runspec.load import parse_run
from training.planning.planner import best_of, rows_of
from training.planning.shape_sources import known_models
from training.planning.shapes import ModelShape
from training.planning.sites import GIB, this_site
from training.planning.workload import Workload

FOR_TRAINING = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets", "ray")
FOR_SERVING = ("torch", "ray", "vllm")
PACKAGES = (*FOR_TRAINING, "deepspeed", "flash-attn", "vllm")
AMPERE = 8.0
"""Compute capability from which GPUs multiply bfloat16 and run flash attention 2."""
LADDER = (
    "HuggingFaceTB/SmolLM2-135M",
    "HuggingFaceTB/SmolLM2-360M",
    "meta-llama/Llama-3.2-1B",
    "meta-llama/Llama-3.2-3B",
    "Qwen/Qwen3-8B",
    "Qwen/Qwen3-14B",
    "Qwen/Qwen3-32B",
    "meta-llama/Llama-3.1-70B",
)
"""Models of rising size, each standing for others like it."""


@dataclass(frozen=True)
class Machine:
    """What was found.

    Attributes:
        shared_memory_bytes: size of /dev/shm, where Ray keeps objects.
        disk_free_bytes: by place: the working folder, the cache of models, the temporary folder.
        versions: of the packages that matter; None if one is not installed.
        open_files: how many files a process may hold open.
        store_problem: why the store cannot be used; empty if it can.
        store_fix: what to do about it.
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
class Missing:
    """Something that is missing, the effect, and how to get it."""

    what: str
    effect: str
    fix: str


@dataclass(frozen=True)
class Ability:
    """Something that a run file may ask for, and whether this machine can do it.

    Attributes:
        what: as the run file has it.
        here: `yes`, `no`, or how far.
        why: the reason; may be empty.
    """

    what: str
    here: str
    why: str = ""


def look(store: str) -> Machine:
    """Look at this machine and at the store."""
    places = dict.fromkeys(str(place) for place in (Path.cwd(), cache_folder(), os.environ.get("TMPDIR") or "/tmp"))
    store_problem = store_fix = ""
    try:
        open_store(store).check()
    except GuitarfishError as error:
        store_problem, store_fix = error.what, error.fix
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
        store_problem=store_problem,
        store_fix=store_fix,
    )


def _version(package: str) -> str | None:
    for name in (package, f"{package}-cpu"):  # vLLM's CPU build has a name of its own
        try:
            return version(name) + (" (CPU build)" if name != package else "")
        except PackageNotFoundError:
            continue
    return None


def what_is_missing(machine: Machine) -> list[Missing]:
    """What is missing, the most serious first."""
    found = []
    for use, needed in (("training", FOR_TRAINING), ("serving", FOR_SERVING)):
        absent = [name for name in needed if machine.versions.get(name) is None]
        if absent:
            found.append(Missing(", ".join(absent), f"no {use} on this machine", "Run: make setup."))
    torch = machine.versions.get("torch") or ""
    if machine.hardware.gpus and "+cpu" in torch:
        fix = "Run: make setup, where nvidia-smi works; or GUITARFISH_LOCK=gpu make setup."
        found.append(Missing(f"a torch for the GPUs (this is {torch})", "the GPUs stay idle", fix))
    if machine.store_problem:
        what = f"access to the store {machine.store}: {machine.store_problem}"
        effect = "no run can start, nothing can be published"
        found.append(Missing(what, effect, machine.store_fix or "Use another store."))
    return [*found, *_of_processor(machine.hardware), *_of_space(machine)]


def _of_processor(hardware: Hardware) -> list[Missing]:
    if hardware.gpus:
        return []
    found = [
        Missing(
            "a GPU",
            "training and serving run on the CPU: models up to about 1B parameters are practical",
            "Use a machine with an NVIDIA GPU and its driver (nvidia-smi has to work).",
        )
    ]
    if "avx2" not in hardware.instructions:
        effect = "vLLM's CPU build does not start: no serving here"
        found.append(Missing("AVX2", effect, "Use an x86-64 CPU from 2013 or later."))
    if not hardware.multiplies_bfloat16:
        effect = "bfloat16 is computed in software: dtype auto trains in float32, serving is slower"
        found.append(Missing("AVX-512 BF16 and AMX", effect, "Use a newer server CPU, or a GPU."))
    return found


def _of_space(machine: Machine) -> list[Missing]:
    found = []
    if machine.memory_free_bytes < 6 * GIB:
        what = f"memory ({machine.memory_free_bytes / GIB:.1f} GiB free)"
        found.append(Missing(what, "two workers of the demo need 6 GiB", "Close other programs."))
    if machine.shared_memory_bytes < GIB:
        effect = "Ray keeps objects on disk instead, which is slow"
        found.append(Missing("shared memory (/dev/shm below 1 GiB)", effect, "Run: docker run --shm-size=2g ..."))
    for place, free_bytes in machine.disk_free_bytes.items():
        if free_bytes < 5 * GIB:
            what = f"disk space at {place} ({free_bytes / GIB:.1f} GiB free)"
            found.append(Missing(what, "models and checkpoints may not fit", "Free some space."))
    if machine.open_files < 4096:
        what = f"open files (limit {machine.open_files})"
        found.append(Missing(what, "Ray may run out of them", "Run: ulimit -n 65536."))
    if machine.compiler is None:
        effect = "no torch.compile, and no packages without a wheel"
        found.append(Missing("a C compiler", effect, "Run: apt install gcc g++."))
    return found


def abilities(machine: Machine) -> list[Ability]:
    """Whatever differs from machine to machine."""
    return [
        *_strategies(machine),
        *_features(machine),
        _serving(machine),
        _largest(machine, "largest model with nf4", "{kind: nf4}"),
        _largest(machine, "largest model unquantised", "{kind: none}"),
    ]


def _strategies(machine: Machine) -> list[Ability]:
    gpus, deepspeed = len(machine.hardware.gpus), machine.versions.get("deepspeed") is not None
    missing = [name for name in ("torch", "trl", "peft", "ray") if machine.versions.get(name) is None]
    found = [Ability("strategy ddp", "yes")]
    if missing:
        found = [Ability("strategy ddp", "no", f"{', '.join(missing)} not installed: make setup")]
    for name in ("zero2", "zero3"):
        if not deepspeed:
            found.append(Ability(f"strategy {name}", "no", "DeepSpeed is not installed: make setup"))
        elif gpus < 2:
            why = "there is only one GPU, and nothing to shard over" if gpus else "there is no GPU"
            found.append(Ability(f"strategy {name}", "yes", f"to try it; it saves nothing: {why}"))
        else:
            found.append(Ability(f"strategy {name}", "yes"))
    why = f"to try it; it spreads layers over several GPUs, and there {'is only one' if gpus else 'are none'}"
    found.append(Ability("strategy device_map", "yes", why if gpus < 2 else ""))
    if gpus and deepspeed:
        return [*found, Ability("offloading", "yes")]
    why = "it needs DeepSpeed, which is not installed" if gpus else "there is no GPU to offload from"
    return [*found, Ability("offloading", "no", why)]


def _features(machine: Machine) -> list[Ability]:
    hardware = machine.hardware
    old = next((_needs_ampere(gpu) for gpu in hardware.gpus if gpu.compute_capability < AMPERE), "")
    nf4 = Ability("quantization nf4", "yes")
    if machine.versions.get("bitsandbytes") is None:
        nf4 = Ability("quantization nf4", "no", "bitsandbytes is not installed: make setup")
    dtype = Ability("dtype bfloat16", "yes")
    if not hardware.multiplies_bfloat16:
        why = old or "the CPU has neither AVX-512 BF16 nor AMX"
        dtype = Ability("dtype bfloat16", "slowly", f"{why}; dtype auto uses float32")
    no_flash = old
    if not hardware.gpus:
        no_flash = "there is no GPU"
    elif not old and machine.versions.get("flash-attn") is None:
        no_flash = "the package flash-attn is not installed"
    return [
        nf4,
        dtype,
        Ability("attention flash_attention_2", "no" if no_flash else "yes", no_flash),
        Ability("method packing on", "no" if no_flash else "yes", "it needs flash_attention_2" if no_flash else ""),
    ]


def _needs_ampere(gpu: Gpu) -> str:
    return f"{gpu.name} has compute capability {gpu.compute_capability}, and it needs {AMPERE}"


def _serving(machine: Machine) -> Ability:
    vllm, gpus = machine.versions.get("vllm"), machine.hardware.gpus
    if vllm is None:
        return Ability("serving", "no", "vllm is not installed: make setup")
    if gpus and "CPU build" in vllm:
        return Ability("serving", "on CPU", "this vLLM is the CPU build; the GPUs stay idle")
    if not gpus and "avx2" not in machine.hardware.instructions:
        return Ability("serving", "no", "vLLM's CPU build needs AVX2")
    return Ability("serving", "yes") if gpus else Ability("serving", "on CPU", "there is no GPU")


def _largest(machine: Machine, what: str, quantization: str) -> Ability:
    """The largest model of the ladder that fits: one row of 1,024 tokens at a time on all GPUs, measured as it is
    trained, which is as little as a useful run needs."""
    workload = Workload(None, 512, 1024, "")
    fitting = None
    for name in LADDER:
        text = f"""
name: largest
model: {{source: {{kind: hub, id: {name}}}, quantization: {quantization}}}
data: {{source: {{kind: file, path: data.jsonl}}, max_length: 1024}}
training: {{batch_size_per_device: 1}}
evaluation: {{quantised: true, batch_size: 1}}
hardware: {{workers: {max(1, len(machine.hardware.gpus))}}}
"""
        spec, shape = parse_run(text, "doctor"), known_models()[name]
        row = best_of(rows_of(spec, shape, this_site(spec.hardware, machine.hardware), workload))
        if not row.fits:
            return Ability(what, _sized(fitting) if fitting else "none", f"{_sized(shape)}: {row.why_not}")
        fitting = shape
    return Ability(what, f"{_sized(fitting)} or more" if fitting else "none")


def _sized(shape: ModelShape) -> str:
    return f"{shape.label.rpartition('/')[2]} ({shape.parameters / 1e9:.1f} B)"
