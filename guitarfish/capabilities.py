"""What can and what cannot run on a machine, and why: strategies, features, and the largest model by memory. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.hardware import Gpu
    from guitarfish.diagnosis import Machine
    from runspec.run import RunSpec
    from training.planning.shapes import ModelShape

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
"""Models of rising size that stand for others like them."""
AMPERE = 8.0
"""Compute capability from which GPUs multiply bfloat16 and run flash attention 2."""


@dataclass(frozen=True)
class Ability:
    """Something that a run file may ask for, and whether this machine can.

    Attributes:
        what: as the run file has it.
        here: `yes`, `no`, or how far.
        why: the reason; empty where there is nothing to say.
    """

    what: str
    here: str
    why: str = ""


def abilities(machine: Machine) -> list[Ability]:
    """All that differs from machine to machine."""
    return [*_strategies(machine), *_features(machine), *_serving(machine), *_models(machine)]


def _strategies(machine: Machine) -> list[Ability]:
    gpus = len(machine.hardware.gpus)
    found = [_training(machine, "strategy ddp")]
    deepspeed = machine.versions.get("deepspeed") is not None
    for name in ("zero2", "zero3"):
        if not deepspeed:
            found.append(Ability(f"strategy {name}", "no", "DeepSpeed is not installed: make setup"))
        elif gpus < 2:
            why = "there is no GPU" if not gpus else "there is one GPU, and nothing to share out"
            found.append(Ability(f"strategy {name}", "yes", f"to try it; it saves nothing: {why}"))
        else:
            found.append(Ability(f"strategy {name}", "yes"))
    if gpus < 2:
        why = f"to try it; it lays layers over several GPUs, and there {'is one' if gpus else 'are none'}"
        found.append(Ability("strategy device_map", "yes", why))
    else:
        found.append(Ability("strategy device_map", "yes"))
    offload = Ability("offloading", "yes") if gpus and deepspeed else None
    why = "there is no GPU to offload from" if not gpus else "it is DeepSpeed's, which is not installed"
    return [*found, offload or Ability("offloading", "no", why)]


def _training(machine: Machine, what: str) -> Ability:
    missing = [name for name in ("torch", "trl", "peft", "ray") if machine.versions.get(name) is None]
    return Ability(what, "no", f"{', '.join(missing)} not installed: make setup") if missing else Ability(what, "yes")


def _features(machine: Machine) -> list[Ability]:
    hardware = machine.hardware
    old = [gpu for gpu in hardware.gpus if gpu.compute_capability < AMPERE]
    if machine.versions.get("bitsandbytes") is None:
        nf4 = Ability("quantization nf4", "no", "bitsandbytes is not installed: make setup")
    else:
        nf4 = Ability("quantization nf4", "yes")
    if hardware.multiplies_bfloat16:
        dtype = Ability("dtype bfloat16", "yes")
    else:
        units = _named(old[0]) if old else "the CPU has neither AVX-512 BF16 nor AMX"
        dtype = Ability("dtype bfloat16", "slowly", f"{units}; dtype auto takes float32")
    flash = _why_no_flash_attention(machine, old)
    return [
        nf4,
        dtype,
        Ability("attention flash_attention_2", "no" if flash else "yes", flash),
        Ability("method packing on", "no" if flash else "yes", "it needs flash_attention_2" if flash else ""),
    ]


def _why_no_flash_attention(machine: Machine, old: list[Gpu]) -> str:
    if not machine.hardware.gpus:
        return "there is no GPU"
    if old:
        return _named(old[0])
    return "" if machine.versions.get("flash-attn") else "the package flash-attn is not installed"


def _named(gpu: Gpu) -> str:
    return f"{gpu.name} has compute capability {gpu.compute_capability}, and it takes {AMPERE}"


def _serving(machine: Machine) -> list[Ability]:
    version = machine.versions.get("vllm")
    if version is None:
        return [Ability("serving", "no", "vllm is not installed: make setup")]
    gpus = machine.hardware.gpus
    if gpus and "CPU build" in version:
        return [Ability("serving", "on CPU", "this vLLM is the CPU build; the GPUs stay idle")]
    if not gpus and "avx2" not in machine.hardware.instructions:
        return [Ability("serving", "no", "vLLM's CPU build needs AVX2")]
    return [Ability("serving", "yes" if gpus else "on CPU", "" if gpus else "there is no GPU")]


def _models(machine: Machine) -> list[Ability]:
    """The largest model of the ladder that fits, with four-bit and with plain weights."""
    return [
        _largest(machine, "largest model with nf4", "{kind: nf4}"),
        _largest(machine, "largest model unquantised", "{kind: none}"),
    ]


def _largest(machine: Machine, what: str, quantization: str) -> Ability:
    from training.planning.known_models import KNOWN
    from training.planning.planner import best_of, rows_of
    from training.planning.shapes import shape_from_config
    from training.planning.sites import this_site
    from training.planning.workload import Workload

    workload = Workload(None, 512, 1024, "")
    fitting = None
    for name in LADDER:
        shape = shape_from_config(KNOWN[name], label=name.rpartition("/")[2], where=name)
        spec = _small_run(machine, name, quantization)
        row = best_of(rows_of(spec, shape, this_site(spec.hardware, machine.hardware), workload))
        if not row.fits:
            why = f"{_sized(shape)}: {row.why_not}"
            return Ability(what, _sized(fitting) if fitting else "none", why)
        fitting = shape
    return Ability(what, f"{_sized(fitting)} or more" if fitting else "none", "")


def _sized(shape: ModelShape) -> str:
    return f"{shape.label} ({shape.parameters / 1e9:.1f} B)"


def _small_run(machine: Machine, model: str, quantization: str) -> RunSpec:
    """One row of 1,024 tokens at a time on all GPUs, measured as it is trained: as little as a useful run needs."""
    from runspec.load import parse_run

    text = f"""
name: largest
model: {{source: {{kind: hub, id: {model}}}, quantization: {quantization}}}
data: {{source: {{kind: file, path: data.jsonl}}, max_length: 1024}}
training: {{batch_size_per_device: 1}}
evaluation: {{quantised: true, batch_size: 1}}
hardware: {{workers: {max(1, len(machine.hardware.gpus))}}}
"""
    return parse_run(text, "doctor")
