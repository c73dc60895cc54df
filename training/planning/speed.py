"""How long a run takes: operations, bytes moved and fixed costs of a step, on hardware of known speed.

An estimate with a range. Its assumptions are named here, and `--explain` shows them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from runspec.run import RunSpec
from runspec.strategy import Concrete, DeviceMap, Zero2, Zero3
from runspec.strict import Strict
from training.planning.footprints import number_bytes, weights_of
from training.planning.shapes import ModelShape
from training.planning.sites import Site
from training.planning.workload import Workload

FASTER, SLOWER = 0.6, 1.8
"""The run may take this many times the estimate."""
LAYER_SECONDS = 0.004
"""Launching the kernels of one layer with adapters, forward and backward, however small the batch. Assumed."""
DECODE_LAYER_SECONDS = 0.0007
"""The same for one layer and one token of an answer. Assumed."""
CPU_FLOPS = {4: 45e9, 2: 65e9}
"""Operations a second of one core, by bytes of a number: a 135M model trained at about 40e9 in float32 on AVX2, at 65e9
in bfloat16 on AMX."""
CPU_LAYER_SECONDS = 0.004
"""Fixed cost of one layer's forward and backward pass on a core."""
CPU_UNPACK = 0.7e9
"""NF4 weights that a core unpacks in a second."""
CPU_DECODE_LAYER_SECONDS = 0.0016
"""Fixed cost of one layer for one token of an answer on a core."""
CPU_BANDWIDTH = 8e9
"""Bytes of weights that a core reads in a second."""
HOST_LINK = 12e9
"""Bytes a second between main memory and a card (PCIe 4.0 x16, measured well below its 32e9)."""
DISK = 0.5e9
"""Bytes of weights that are read from disk in a second."""
STARTING = 20.0
"""Seconds until Ray and a group of workers are up."""


class TimeTerm(Strict):
    """One part of a run's time."""

    name: str
    seconds: float
    why: str


class TimeNeed(Strict):
    """How long a run takes."""

    terms: tuple[TimeTerm, ...]
    training_seconds: float
    """The part of it in optimiser steps."""

    @property
    def seconds(self) -> float:
        return sum(term.seconds for term in self.terms)


@dataclass(frozen=True)
class Steps:
    """The optimiser steps of a run, whatever the hardware.

    Attributes:
        count: optimiser steps.
        rows: rows in one of them.
        tokens: tokens of the whole run.
    """

    count: int
    rows: int
    tokens: float


def steps_of(spec: RunSpec, workload: Workload, workers: int) -> Steps | None:
    """Steps of a run; None if neither max_steps nor the number of rows is known."""
    training = spec.training
    per_step = training.batch_size_per_device * training.gradient_accumulation * workers
    if training.max_steps is not None:
        return Steps(training.max_steps, per_step, training.max_steps * per_step * workload.row_tokens)
    if workload.rows is None:
        return None
    count = math.ceil(workload.rows / per_step) * training.epochs
    return Steps(max(1, math.ceil(count)), per_step, workload.rows * training.epochs * workload.row_tokens)


def time_of(shape: ModelShape, spec: RunSpec, strategy: Concrete, site: Site, workload: Workload) -> TimeNeed | None:
    """Predict the time of a run; None if the hardware's speed or the number of steps is not known."""
    steps = steps_of(spec, workload, site.workers)
    if steps is None or (site.cards and site.card is None):
        return None
    micro = max(1, steps.count * steps.rows // spec.training.batch_size_per_device)  # batches of one worker
    per_worker = micro / (1 if isinstance(strategy, DeviceMap) else site.workers)
    passes = _on_cards(shape, spec, strategy, site) if site.cards else _on_cores(shape, spec, strategy, site)
    tokens = steps.tokens / micro * _sequences(spec)
    batch = passes.flops(shape, spec, tokens) / passes.speed
    moved = passes.transfer / passes.link
    seconds = per_worker * (max(batch, moved) + passes.unpack + passes.fixed)
    why = (
        f"{steps.count} steps, {per_worker:.0f} batches of {tokens:.0f} tokens a worker, each "
        f"{batch:.2g} s of products ({passes.how})"
        + (f", {moved:.2g} s of transfers in parallel" if moved else "")
        + f", {passes.unpack + passes.fixed:.2g} s unpacking and launching"
    )
    terms = [
        TimeTerm(name="starting", seconds=_starting(shape, spec, site), why="Ray, workers, weights from disk"),
        TimeTerm(name="training", seconds=seconds, why=why),
        *_evaluations(shape, spec, strategy, site, workload, passes),
    ]
    return TimeNeed(terms=tuple(terms), training_seconds=seconds)


@dataclass(frozen=True)
class _Passes:
    """The cost of one batch on one worker.

    Attributes:
        speed: operations a second.
        transfer: bytes between cards, or between main memory and a card, at `link` bytes a second.
        unpack: seconds of unpacking four-bit weights.
        fixed: seconds, whatever the batch.
        token: seconds of one token of all answers of a batch.
    """

    speed: float
    transfer: float
    link: float
    unpack: float
    fixed: float
    token: float
    how: str

    def flops(self, shape: ModelShape, spec: RunSpec, tokens: float) -> float:
        """Operations of a forward and a backward pass.

        Two a weight and token forward, two back through the frozen weights, which need no gradient of their own, and
        two more where activations are computed again (https://arxiv.org/abs/2001.08361 counts six with gradients of
        all weights). The attention's pairs come on top; with DPO a reference's forward pass, and with KTO that and the
        two of its KL term.
        """
        again = 2 if spec.training.gradient_checkpointing else 0
        reference = {"dpo": 2, "kto": 6}.get(spec.method.kind, 0)
        weights = shape.linear + shape.embedding
        pairs = 2 * shape.layers * shape.heads * shape.head_dim * min(spec.data.max_length, shape.context)
        return tokens * ((4 + again + reference) * weights + (3 + again / 2) * pairs)


def _sequences(spec: RunSpec) -> int:
    return 2 if spec.method.kind in ("dpo", "orpo") else 1


def _on_cards(shape: ModelShape, spec: RunSpec, strategy: Concrete, site: Site) -> _Passes:
    card = site.card
    assert card is not None
    number = number_bytes(spec, strategy, site)
    weights = weights_of(shape, spec, number)
    speed = card.flops * card.efficiency * (1 if number == 2 else 0.4)
    through = 3 if spec.training.gradient_checkpointing else 2
    quantised = spec.model.quantization.kind == "nf4"
    unpack = through * shape.linear * (0.5 + 2 * number) / card.bandwidth if quantised else 0.0
    transfer, link = 0.0, card.link
    if isinstance(strategy, Zero3):
        transfer = through * weights.whole * (1 - 1 / site.workers)
        if strategy.offload_parameters:
            transfer, link = through * weights.whole, min(card.link, HOST_LINK)
    plain = weights_of(shape, spec, number, quantised=spec.evaluation.quantised).whole
    token = max(plain / card.bandwidth, shape.layers * DECODE_LAYER_SECONDS)
    slower = 1.1 if isinstance(strategy, Zero2 | Zero3) else 1.0
    how = f"{card.flops / 1e12:.0f} TFLOP/s x {card.efficiency:.2f}" + ("" if number == 2 else " x 0.4 in float32")
    return _Passes(speed / slower, transfer, link, unpack, shape.layers * LAYER_SECONDS * slower, token, how)


def _on_cores(shape: ModelShape, spec: RunSpec, strategy: Concrete, site: Site) -> _Passes:
    number = number_bytes(spec, strategy, site)
    cores = max(1, (site.cores or 1) // site.workers)
    cores = spec.hardware.cpus_per_worker or min(8, cores)
    speed = cores * CPU_FLOPS[number]
    through = 3 if spec.training.gradient_checkpointing else 2
    quantised = spec.model.quantization.kind == "nf4"
    unpack = through * shape.linear / (CPU_UNPACK * cores) if quantised else 0.0
    plain = weights_of(shape, spec, number, quantised=spec.evaluation.quantised).whole
    products = 2 * (shape.linear + shape.embedding) * spec.evaluation.batch_size / speed
    token = max(plain / (CPU_BANDWIDTH * cores), products) + shape.layers * CPU_DECODE_LAYER_SECONDS
    how = f"{cores} cores x {CPU_FLOPS[number] / 1e9:.0f} GFLOP/s"
    return _Passes(speed, 0.0, 1.0, unpack, shape.layers * CPU_LAYER_SECONDS, token, how)


def _starting(shape: ModelShape, spec: RunSpec, site: Site) -> float:
    """Three groups of workers load the model: before, during and after training."""
    readers = 1 if site.cards else site.workers
    return 3 * (STARTING / 2 + shape.parameters * 2 * readers / DISK / 2)


def _evaluations(
    shape: ModelShape, spec: RunSpec, strategy: Concrete, site: Site, workload: Workload, passes: _Passes
) -> list[TimeTerm]:
    """Held-out rows are answered by the base model, the base model with examples in its prompt, and the tuned model."""
    evaluation = spec.evaluation
    spread = isinstance(strategy, Zero3 | DeviceMap)
    workers = 1 if spread else site.workers
    rounds = 3 if evaluation.few_shot else 2
    rows = evaluation.rows
    if workload.rows is not None:
        rows = min(rows, max(2, workload.rows // 5))
    batches = math.ceil(rows / (evaluation.batch_size * workers))
    answer = min(evaluation.max_new_tokens, workload.row_tokens)
    reading = 2 * (shape.linear + shape.embedding) * rows / workers * workload.row_tokens / passes.speed
    seconds = rounds * (batches * answer * passes.token + reading)
    general = evaluation.general
    if general is not None:
        seconds += 2 * math.ceil(general.prompts / (evaluation.batch_size * workers)) * general.tokens * passes.token
    why = f"{rounds} rounds of {rows} rows, answers of about {answer:.0f} tokens, {passes.token:.2g} s a token"
    return [TimeTerm(name="evaluating", seconds=seconds, why=why)]
