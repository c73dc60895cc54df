"""The search over LoRA ranks and learning rates: what is tried, how soon a bad trial is stopped, what it may cost."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from runspec.strict import Strict, disagreement

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

    @model_validator(mode="after")
    def _low_is_lower(self) -> "RateRange":
        if self.low >= self.high:
            what = f"`low` is {self.low:g} and `high` is {self.high:g}."
            raise disagreement(what, "low", "high", fix="Write the smaller one as `low`.")
        return self


Rates = Annotated[RateList | RateRange, Field(discriminator="kind")]


class TuningSpec(Strict):
    """What `guitarfish tune` searches. Bad trials are stopped early by asynchronous successive halving
    (ASHA, https://arxiv.org/abs/1810.05934) on the hold-out loss; the others are measured on `gate.metric`."""

    ranks: tuple[Rank, ...] = Field(default=(4, 8, 16), min_length=1)
    """LoRA ranks to try."""
    learning_rates: Rates = RateList()
    """Peak learning rates to try with each rank."""
    alpha_per_rank: float | None = Field(default=2.0, gt=0)
    """`lora.alpha` follows the rank: alpha is this times the rank, so that all ranks are scaled alike. Null: every rank
    uses `lora.alpha`."""
    trials: int | None = Field(default=None, ge=1)
    """Most trials; ranks take turns, so that each is tried. Null: every rank with every learning rate."""
    concurrent: int | None = Field(default=None, ge=1)
    """Trials at the same time, each on one worker. Null: as many as the cluster has room for, one a GPU, or one for
    each `hardware.cpus_per_worker` cores."""
    grace_steps: int = Field(default=50, ge=1)
    """Optimiser steps that every trial gets before it may be stopped."""
    reduction_factor: int = Field(default=3, ge=2)
    """Of the trials that reach `grace_steps`, one in this many continues to this many times the steps, and so on."""
    budget_usd: float | None = Field(default=None, gt=0)
    """Most the search may cost, failed trials included. At the limit no trial starts, those in training stop with a
    checkpoint, and those being measured are measured to their end. Null: no limit."""

    @model_validator(mode="after")
    def _nothing_twice(self) -> "TuningSpec":
        for name, values in (("ranks", self.ranks), ("learning_rates", self.learning_rates.values)):
            for value in values:
                if values.count(value) > 1:
                    raise disagreement(f"`tuning.{name}` has {value:g} twice.", name, fix="Keep one of the two.")
        return self
