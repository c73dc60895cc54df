"""The search over LoRA ranks and learning rates: which are tried, how soon a bad one is stopped, what it may cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from runspec.strict import Strict

if TYPE_CHECKING:
    from runspec.run import RunSpec

Rank = Annotated[int, Field(ge=1, le=512)]
Rate = Annotated[float, Field(gt=0)]


class RateList(Strict):
    """Learning rates one by one."""

    kind: Literal["list"] = "list"
    values: tuple[Rate, ...] = Field(default=(1e-4, 2e-4, 5e-4), min_length=1)
    """Peak learning rates; each rank is tried with each."""


class RateRange(Strict):
    """Learning rates at even steps on a logarithmic scale, both ends included."""

    kind: Literal["range"] = "range"
    low: float = Field(gt=0)
    """The smallest peak learning rate."""
    high: float = Field(gt=0)
    """The largest."""
    count: int = Field(default=3, ge=2)
    """How many; each rank is tried with each."""

    @property
    def values(self) -> tuple[float, ...]:
        """The rates, smallest first, rounded to three digits."""
        step = math.log(self.high / self.low) / (self.count - 1)
        return tuple(float(f"{self.low * math.exp(step * place):.3g}") for place in range(self.count))


Rates = Annotated[RateList | RateRange, Field(discriminator="kind")]


class TuningSpec(Strict):
    """What `guitarfish tune` searches through. Bad trials are stopped early by asynchronous successive halving
    (ASHA, https://arxiv.org/abs/1810.05934) on the hold-out loss; the others are measured on `gate.metric`."""

    ranks: tuple[Rank, ...] = Field(default=(4, 8, 16), min_length=1)
    """LoRA ranks to try."""
    learning_rates: Rates = RateList()
    """Peak learning rates to try with each rank."""
    alpha_per_rank: float | None = Field(default=2.0, gt=0)
    """`lora.alpha` follows the rank: alpha is this times the rank, so that all ranks are scaled alike. Null: every rank
    has `lora.alpha`."""
    trials: int | None = Field(default=None, ge=1)
    """Most trials; ranks take turns, so that each is tried. Null: every rank with every learning rate."""
    concurrent: int | None = Field(default=None, ge=1)
    """Trials at the same time, each on one worker. Null: as many as the cluster has room for, one a GPU, or one for
    each `hardware.cpus_per_worker` cores."""
    grace_steps: int = Field(default=50, ge=1)
    """Optimiser steps that every trial gets before it may be stopped."""
    reduction_factor: int = Field(default=3, ge=2)
    """Of the trials that come to `grace_steps`, one in so many goes on to this times as many steps, and so forth."""
    budget_usd: float | None = Field(default=None, gt=0)
    """Most the search may cost, failed trials included. At the limit no trial starts, those in training stop with a
    checkpoint, and those being measured are measured to their end. Null: no limit."""


def disagreement(spec: RunSpec) -> str | None:
    """What a run file's `tuning` says against the rest of it; None where they agree. Ends in the fix, after a colon."""
    tuning = spec.tuning
    if tuning is None:
        return None
    return _own(tuning) or _with_ranks(tuning, spec) or _with_training(tuning, spec) or _with_workers(spec)


def _own(tuning: TuningSpec) -> str | None:
    for name, values in (("ranks", tuning.ranks), ("learning_rates", tuning.learning_rates.values)):
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            return f"tuning.{name} has {twice:g} twice: keep one of the two"
    rates = tuning.learning_rates
    if isinstance(rates, RateRange) and rates.low >= rates.high:
        return (
            f"tuning.learning_rates.low is {rates.low:g}, but tuning.learning_rates.high is {rates.high:g}: "
            "write the smaller one as low"
        )
    return None


def _with_ranks(tuning: TuningSpec, spec: RunSpec) -> str | None:
    largest = max(tuning.ranks)
    if spec.publish is not None and largest > spec.serving.max_rank:
        return (
            f"tuning.ranks has {largest}, but serving.max_rank is {spec.serving.max_rank}: "
            "raise the second or leave that rank out"
        )
    if spec.lora.start_from is not None:
        return (
            f"tuning.ranks names ranks to try, but lora.start_from is {spec.lora.start_from}, which has its own: "
            "remove one of the two"
        )
    return None


def _with_training(tuning: TuningSpec, spec: RunSpec) -> str | None:
    training = spec.training
    if training.holdout_loss_rows == 0:
        return (
            "training.holdout_loss_rows is 0, but tuning.grace_steps asks for trials to be compared by their hold-out "
            "loss: set training.holdout_loss_rows to 64"
        )
    if training.checkpoint_every_steps > tuning.grace_steps:
        return (
            f"training.checkpoint_every_steps is {training.checkpoint_every_steps}, but tuning.grace_steps is "
            f"{tuning.grace_steps}, and trials are compared at checkpoints: lower the first or raise the second"
        )
    if training.max_steps is not None and training.max_steps <= tuning.grace_steps:
        return (
            f"tuning.grace_steps is {tuning.grace_steps}, but training.max_steps is {training.max_steps}, so no trial "
            "could be stopped early: lower the first or raise the second"
        )
    return None


def _with_workers(spec: RunSpec) -> str | None:
    workers = spec.hardware.workers
    if workers == 1:
        return None
    batch = spec.training.gradient_accumulation * workers
    return (
        f"tuning.concurrent trials have one worker each, but hardware.workers is {workers}: set hardware.workers to 1, "
        f"and training.gradient_accumulation to {batch} for the same batch"
    )
