"""Looks for the smallest change of a run file under which it fits; what is suggested was worked out, not guessed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runspec.model import Nf4, Unquantised
from runspec.run import RunSpec
from runspec.strategy import Concrete
from training.planning.memory import memory_of
from training.planning.shapes import ModelShape
from training.planning.sites import Site

SHORTEST = 256
"""Tokens below which data.max_length is not lowered."""
Change = tuple[str, RunSpec]
"""A setting as the user would write it, and the run file with it."""


def fix_for(shape: ModelShape, spec: RunSpec, strategy: Concrete, site: Site, row_tokens: int | None) -> str:
    """Settings under which the run fits, as `--set` takes them; empty where none of those tried is enough."""
    made: dict[str, str] = {}
    for _ in range(20):
        phase = _worst(shape, spec, strategy, site, row_tokens)
        if phase is None:
            return "Set " + ", ".join(f"{key}={value}" for key, value in made.items()) + "." if made else ""
        change = _next_change(phase, shape, spec, strategy, site, row_tokens)
        if change is None:
            return ""
        setting, spec = change
        key, _, value = setting.partition("=")
        made[key] = value
        if key == "training.batch_size_per_device":
            made["training.gradient_accumulation"] = str(spec.training.gradient_accumulation)
    return ""


def _next_change(
    phase: str, shape: ModelShape, spec: RunSpec, strategy: Concrete, site: Site, row_tokens: int | None
) -> Change | None:
    """The first change that lowers the peak of that phase."""
    before = _peak(phase, shape, spec, strategy, site, row_tokens)
    for setting, changed in _changes(phase, spec):
        if _peak(phase, shape, changed, strategy, site, row_tokens) < before:
            return setting, changed
    return None


def _worst(shape: ModelShape, spec: RunSpec, strategy: Concrete, site: Site, row_tokens: int | None) -> str | None:
    """The phase that exceeds what there is the most; None where all fit."""
    over = {}
    for phase in memory_of(shape, spec, strategy, site, row_tokens=row_tokens).phases:
        card = phase.card_bytes / site.card_bytes if site.card_bytes else 0.0
        host = phase.host_bytes / site.host_bytes if site.host_bytes else 0.0
        over[phase.name] = max(card, host)
    worst = max(over, key=lambda name: over[name])
    return worst if over[worst] > 1 else None


def _peak(
    name: str, shape: ModelShape, spec: RunSpec, strategy: Concrete, site: Site, row_tokens: int | None
) -> tuple[int, int]:
    phases = memory_of(shape, spec, strategy, site, row_tokens=row_tokens).phases
    phase = next((phase for phase in phases if phase.name == name), None)
    return (phase.card_bytes, phase.host_bytes) if phase else (0, 0)


def _changes(phase: str, spec: RunSpec) -> Iterator[Change]:
    """Settings to try in this order: what costs the least comes first."""
    if phase == "evaluating":
        yield from _of_evaluation(spec)
        return
    if not spec.training.gradient_checkpointing and phase == "training":
        yield _set(spec, "training", "gradient_checkpointing", True)
    batch = spec.training.batch_size_per_device
    if batch > 1 and phase != "loading":
        yield _smaller_batch(spec)
    if isinstance(spec.model.quantization, Unquantised):
        model = spec.model.model_copy(update={"quantization": Nf4()})
        yield "model.quantization={kind: nf4}", spec.model_copy(update={"model": model})
    if spec.data.max_length > SHORTEST and phase != "loading":
        yield _set(spec, "data", "max_length", max(SHORTEST, spec.data.max_length // 2))
    if phase == "hold-out loss":
        yield _set(spec, "training", "holdout_loss_rows", 0)


def _of_evaluation(spec: RunSpec) -> Iterator[Change]:
    evaluation = spec.evaluation
    if evaluation.batch_size > 4:
        yield _set(spec, "evaluation", "batch_size", 4)
    if not evaluation.quantised and isinstance(spec.model.quantization, Nf4):
        yield _set(spec, "evaluation", "quantised", True)
    if evaluation.batch_size > 1:
        yield _set(spec, "evaluation", "batch_size", 1)
    if spec.data.max_length > SHORTEST:
        yield _set(spec, "data", "max_length", max(SHORTEST, spec.data.max_length // 2))


def _smaller_batch(spec: RunSpec) -> Change:
    """Half the batch, and twice the accumulation, so that an optimiser step sees as many rows."""
    training = spec.training
    half = training.batch_size_per_device // 2
    more = training.gradient_accumulation * training.batch_size_per_device // half
    update = {"batch_size_per_device": half, "gradient_accumulation": more}
    changed = spec.model_copy(update={"training": training.model_copy(update=update)})
    return f"training.batch_size_per_device={half}", changed


def _set(spec: RunSpec, section: str, key: str, value: Any) -> Change:
    part = getattr(spec, section).model_copy(update={key: value})
    shown = str(value).lower() if isinstance(value, bool) else value
    return f"{section}.{key}={shown}", spec.model_copy(update={section: part})
