"""The choice: the smallest rank among the trials whose hold-out scores cannot be told from the best one's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.evaluation.scores import gain, lower_is_better


@dataclass(frozen=True)
class Candidate:
    """A trial that was measured.

    Attributes:
        values: of the metric, one per held-out row; all candidates have the same rows in the same order.
        mean_kl: drift on general prompts, in nats per token; None where it was not measured.
    """

    number: int
    rank: int
    values: list[float]
    mean_kl: float | None

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)


@dataclass(frozen=True)
class Choice:
    """The choice; trials are named by their numbers.

    Attributes:
        best: the trial with the best mean.
        equals: trials that cannot be told from the best one, itself included.
        too_far: trials left out because they drifted too far on general prompts; empty where all did.
    """

    chosen: int
    best: int
    equals: list[int]
    too_far: list[int]


def choose(candidates: Sequence[Candidate], metric: str, *, max_drift: float | None, seed: int = 0) -> Choice:
    """Take the smallest rank whose score is within the best one's interval.

    A trial counts as equal to the best where the 95 % bootstrap interval of their difference, paired row by row,
    holds 0: most of what makes two scores uncertain is which rows happened to be held out, and the trials share those.
    Of equal ranks the better mean is taken.

    Args:
        metric: says which direction is better.
        max_drift: `gate.max_drift`; trials beyond it are left out, unless all are.

    Raises:
        ValueError: there are no candidates.
    """
    far = [one for one in candidates if max_drift is not None and one.mean_kl is not None and one.mean_kl > max_drift]
    near = [one for one in candidates if one not in far] or list(candidates)
    sign = -1 if lower_is_better(metric) else 1
    best = max(near, key=lambda one: (sign * one.mean, -one.rank, -one.number))
    equals = [one for one in near if one is best or gain(metric, one.values, best.values, seed=seed).low <= 0]
    chosen = min(equals, key=lambda one: (one.rank, -sign * one.mean, one.number))
    return Choice(
        chosen=chosen.number,
        best=best.number,
        equals=sorted(one.number for one in equals),
        too_far=sorted(one.number for one in far if one not in near),
    )
