"""The search space: which pairs of rank and learning rate are tried, in which order, and the run file of each."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from itertools import zip_longest

from runspec.run import RunSpec
from runspec.tuning import TuningSpec


@dataclass(frozen=True)
class Trial:
    """One point of the search space.

    Attributes:
        number: from 0, in the order in which trials start.
        alpha: LoRA's alpha, linked to the rank.
    """

    number: int
    rank: int
    alpha: float
    learning_rate: float


def tuning_of(spec: RunSpec) -> TuningSpec:
    if spec.tuning is None:
        raise ValueError("the run file has no tuning")
    return spec.tuning


def trials_of(spec: RunSpec) -> list[Trial]:
    """The trials in the order in which they start: ranks take turns, learning rates are shuffled.

    The same run file gives the same trials.

    Raises:
        ValueError: the run file has no `tuning`.
    """
    tuning = tuning_of(spec)
    chance = random.Random(spec.seed)
    rates = {
        rank: chance.sample(tuning.learning_rates.values, len(tuning.learning_rates.values)) for rank in tuning.ranks
    }
    rounds = zip_longest(*([(rank, rate) for rate in rates[rank]] for rank in tuning.ranks))
    pairs = [pair for each in rounds for pair in each][: tuning.trials]
    per_rank = tuning.alpha_per_rank
    return [
        Trial(number, rank, spec.lora.alpha if per_rank is None else per_rank * rank, rate)
        for number, (rank, rate) in enumerate(pairs)
    ]


def trial_spec(spec: RunSpec, trial: Trial) -> RunSpec:
    """The search's run file with the trial's rank, alpha and learning rate, and without `tuning`.

    Raises:
        ValidationError: the run file is not valid with them.
    """
    values = spec.model_dump(mode="json")
    values["lora"] |= {"rank": trial.rank, "alpha": trial.alpha}
    values["training"] |= {"learning_rate": trial.learning_rate}
    values["tuning"] = None
    return RunSpec.model_validate_json(json.dumps(values), strict=True)


def trial_run_id(search_id: str, number: int) -> str:
    """The run of a trial: `SEARCH-t07`."""
    return f"{search_id}-t{number:02d}"
