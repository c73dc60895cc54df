"""Scores, gains and drift: what the gate looks at."""

from __future__ import annotations

from runspec.strict import Strict
from training.evaluation.statistics import bootstrap

LOWER_IS_BETTER = frozenset({"loss"})


def lower_is_better(metric: str) -> bool:
    return metric in LOWER_IS_BETTER


class Score(Strict):
    """The mean of a metric over the hold-out, with its 95 % bootstrap interval."""

    metric: str
    n: int
    mean: float
    low: float
    high: float


class Gain(Strict):
    """How much better the tuned model is, paired by example. Positive is better, for losses too."""

    metric: str
    n: int
    mean: float
    low: float
    high: float
    lower_is_better: bool
    """True: the gain is base minus tuned; otherwise tuned minus base."""


class Drift(Strict):
    """How far the tuned model is from its base on the base model's own continuations, in nats per token."""

    mean_kl: float
    """Mean over all tokens of KL(base || tuned), each over the whole vocabulary."""
    kl_low: float
    kl_high: float
    """95 % interval, bootstrapped over prompts."""
    base_loss: float
    """Mean cross-entropy of the continuations under the base model."""
    tuned_loss: float
    """The same under the tuned model."""
    loss_rise: float
    """`tuned_loss` minus `base_loss`."""
    n_prompts: int
    n_tokens: int
    kl_by_prompt: list[float]
    """Sum of the KL over the tokens of each continuation."""
    base_nll_by_prompt: list[float]
    tuned_nll_by_prompt: list[float]
    tokens_by_prompt: list[int]


def score(metric: str, values: list[float], *, seed: int = 0) -> Score:
    found = bootstrap(values, seed=seed)
    return Score(metric=metric, n=len(values), mean=found.mean, low=found.low, high=found.high)


def gain(metric: str, before: list[float], after: list[float], *, seed: int = 0) -> Gain:
    """The paired gain, from values of the same examples in the same order: the interval is that of the differences."""
    sign = -1.0 if lower_is_better(metric) else 1.0
    differences = [sign * (new - old) for old, new in zip(before, after, strict=True)]
    found = bootstrap(differences, seed=seed)
    return Gain(
        metric=metric,
        n=len(differences),
        mean=found.mean,
        low=found.low,
        high=found.high,
        lower_is_better=lower_is_better(metric),
    )
