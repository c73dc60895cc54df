"""What a strategy cannot do whatever the memory, and the smallest change of a run file under which it fits.

Each change that is suggested was planned again, not guessed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

from runspec.model import Nf4, Unquantised
from runspec.run import RunSpec
from runspec.strategy import Concrete, DeviceMap, Zero2, Zero3
from training.planning.memory import MemoryNeed, Phase, memory_of
from training.planning.shapes import ModelShape
from training.planning.sites import GIB, Site

SHORTEST = 256
"""Tokens below which data.max_length is not lowered."""
Change = tuple[dict[str, str], RunSpec]
"""Settings as the user would write them, and the run file with them."""


def why_impossible(spec: RunSpec, strategy: Concrete, site: Site) -> tuple[str, str] | None:
    """What rules a strategy out for this run file and hardware, and the fix; None if nothing does.

    The run file's own checks cover a strategy that it names; those that `auto` tries are checked here.
    """
    quantization = spec.model.quantization
    if isinstance(strategy, Zero3) and isinstance(quantization, Nf4):
        if quantization.storage == "uint8":
            return (
                "zero3 shards floating types only, but model.quantization.storage is uint8.",
                "Set model.quantization.storage: auto.",
            )
        if spec.model.dtype == "float32":
            return (
                "zero3 keeps NF4 weights as bfloat16, but model.dtype is float32.",
                "Set model.dtype: auto, or model.quantization: {kind: none}.",
            )
    if isinstance(strategy, Zero3) and site.cards and not site.multiplies_bfloat16:
        return (
            f"zero3 computes in bfloat16, which {site.label} does not support in hardware.",
            "Use GPUs of compute capability 8.0 (Ampere) or newer.",
        )
    if isinstance(strategy, DeviceMap) and site.cards and strategy.reserve_gib * GIB >= site.card_bytes:
        return (
            f"strategy.reserve_gib is {strategy.reserve_gib:g}, but a card has only {site.card_bytes / GIB:.1f} GiB.",
            "Lower strategy.reserve_gib.",
        )
    if offloads(strategy) and site.cards == 0:
        return (
            f"{strategy.kind} offloads from GPUs to main memory, but {site.label} has no GPU.",
            "Set strategy.offload_optimizer and strategy.offload_parameters to false.",
        )
    if site.here and isinstance(strategy, Zero2 | Zero3) and importlib.util.find_spec("deepspeed") is None:
        return f"{strategy.kind} needs DeepSpeed, which is not installed.", "Run: make setup."
    return None


def offloads(strategy: Concrete) -> bool:
    """Whether a strategy keeps something in main memory instead of on the cards."""
    return isinstance(strategy, Zero2 | Zero3) and (
        strategy.offload_optimizer or (isinstance(strategy, Zero3) and strategy.offload_parameters)
    )


def why_too_large(need: MemoryNeed, site: Site) -> str:
    """What exceeds the memory, with both values; empty if all fits."""
    if site.cards and need.card_bytes > site.card_bytes:
        phase = max(need.phases, key=lambda phase: phase.card_bytes)
        return f"{phase.name} needs {gib(phase.card_bytes)} on a card of {gib(site.card_bytes)}."
    if site.host_bytes is not None and need.host_bytes > site.host_bytes:
        phase = max(need.phases, key=lambda phase: phase.host_bytes)
        return f"{phase.name} needs {gib(phase.host_bytes)} of main memory, but the machine has {gib(site.host_bytes)}."
    return ""


def fix_for(shape: ModelShape, spec: RunSpec, strategy: Concrete, site: Site, row_tokens: int | None) -> str:
    """Settings under which the run fits, as `--set` takes them; empty if none of those tried is enough."""

    def excess(phase: Phase) -> float:
        card = phase.card_bytes / site.card_bytes if site.card_bytes else 0.0
        return max(card, phase.host_bytes / site.host_bytes if site.host_bytes else 0.0)

    def peak(name: str, spec: RunSpec) -> tuple[int, int]:
        phases = memory_of(shape, spec, strategy, site, row_tokens=row_tokens).phases
        return next(((phase.card_bytes, phase.host_bytes) for phase in phases if phase.name == name), (0, 0))

    made: dict[str, str] = {}
    for _ in range(20):
        worst = max(memory_of(shape, spec, strategy, site, row_tokens=row_tokens).phases, key=excess)
        if excess(worst) <= 1:
            return "Set " + ", ".join(f"{key}={value}" for key, value in made.items()) + "." if made else ""
        before = worst.card_bytes, worst.host_bytes
        change = next((each for each in _changes(worst.name, spec) if peak(worst.name, each[1]) < before), None)
        if change is None:
            return ""
        settings, spec = change
        made |= settings
    return ""


def _changes(phase: str, spec: RunSpec) -> Iterator[Change]:
    """Settings to try for a phase, those that cost the least first."""
    shorter = {"data.max_length": max(SHORTEST, spec.data.max_length // 2)}
    if phase == "evaluating":
        evaluation = spec.evaluation
        if evaluation.batch_size > 4:
            yield _set(spec, {"evaluation.batch_size": 4})
        if not evaluation.quantised and isinstance(spec.model.quantization, Nf4):
            yield _set(spec, {"evaluation.quantised": True})
        if evaluation.batch_size > 1:
            yield _set(spec, {"evaluation.batch_size": 1})
        if spec.data.max_length > SHORTEST:
            yield _set(spec, shorter)
        return
    if not spec.training.gradient_checkpointing and phase == "training":
        yield _set(spec, {"training.gradient_checkpointing": True})
    batch = spec.training.batch_size_per_device
    if batch > 1 and phase != "loading":  # more accumulation, so that an optimiser step sees as many rows
        more = spec.training.gradient_accumulation * batch // (batch // 2)
        yield _set(spec, {"training.batch_size_per_device": batch // 2, "training.gradient_accumulation": more})
    if isinstance(spec.model.quantization, Unquantised):
        model = spec.model.model_copy(update={"quantization": Nf4()})
        yield {"model.quantization": "{kind: nf4}"}, spec.model_copy(update={"model": model})
    if spec.data.max_length > SHORTEST and phase != "loading":
        yield _set(spec, shorter)
    if phase == "hold-out loss":
        yield _set(spec, {"training.holdout_loss_rows": 0})


def _set(spec: RunSpec, values: dict[str, Any]) -> Change:
    for key, value in values.items():
        section, _, field = key.partition(".")
        part = getattr(spec, section).model_copy(update={field: value})
        spec = spec.model_copy(update={section: part})
    shown = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in values.items()}
    return shown, spec


def gib(count: float) -> str:
    return f"{count / GIB:.1f} GiB"
