"""The search space: which trials a run file asks for, in which order, and what each of them is told."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from runspec.run import RunSpec
from runspec.tuning import RateRange
from tuning.space import trial_run_id, trial_spec, trials_of


def run_spec(tuning: dict[str, Any] | None, **sections: Any) -> RunSpec:
    return RunSpec.model_validate(
        {
            "name": "a",
            "model": {"source": {"kind": "hub", "id": "x"}},
            "data": {"source": {"kind": "file", "path": "d"}},
            "tuning": tuning,
            **sections,
        }
    )


RATES = {"kind": "list", "values": [1e-4, 2e-4, 4e-4]}


def test_every_rank_with_every_rate() -> None:
    trials = trials_of(run_spec({"ranks": [4, 8], "learning_rates": RATES}))
    assert [trial.number for trial in trials] == list(range(6))
    assert {(trial.rank, trial.learning_rate) for trial in trials} == {(r, v) for r in (4, 8) for v in RATES["values"]}


def test_ranks_take_turns_so_that_few_trials_try_each() -> None:
    trials = trials_of(run_spec({"ranks": [4, 8, 16], "learning_rates": RATES, "trials": 4}))
    assert [trial.rank for trial in trials] == [4, 8, 16, 4]


def test_the_same_run_file_gives_the_same_trials_and_another_seed_another_order() -> None:
    tuning = {"ranks": [4, 8, 16], "learning_rates": RATES}
    orders = [trials_of(run_spec(tuning, seed=seed)) for seed in (0, 0, 1, 2, 3)]
    assert orders[0] == orders[1]
    assert any(order != orders[0] for order in orders)


def test_alpha_follows_the_rank_or_stays() -> None:
    linked = trials_of(run_spec({"ranks": [4, 8], "learning_rates": {"kind": "list", "values": [1e-4]}}))
    assert [trial.alpha for trial in linked] == [8, 16]
    kept = trials_of(run_spec({"ranks": [4, 8], "alpha_per_rank": None, "trials": 2}, lora={"alpha": 20}))
    assert [trial.alpha for trial in kept] == [20, 20]


def test_a_range_of_rates_is_even_on_a_logarithmic_scale() -> None:
    assert RateRange(low=1e-4, high=1e-2, count=3).values == (1e-4, 1e-3, 1e-2)
    assert RateRange(low=1e-4, high=1e-3, count=4).values == (1e-4, 2.15e-4, 4.64e-4, 1e-3)


def test_a_trial_changes_three_values_and_nothing_else() -> None:
    spec = run_spec({"ranks": [4], "learning_rates": RATES}, lora={"dropout": 0.2})
    trial = trials_of(spec)[1]
    found = trial_spec(spec, trial)
    assert (found.lora.rank, found.lora.alpha, found.lora.dropout) == (4, 8, 0.2)
    assert found.training.learning_rate == trial.learning_rate
    assert found.tuning is None
    put_back = found.model_copy(update={"lora": spec.lora, "training": spec.training, "tuning": spec.tuning})
    assert put_back == spec


def test_a_run_file_without_tuning_has_no_trials() -> None:
    with pytest.raises(ValueError, match="no tuning"):
        trials_of(run_spec(None))


def test_a_trial_has_a_run_of_its_own() -> None:
    assert trial_run_id("a-tune-1", 7) == "a-tune-1-t07"


@pytest.mark.parametrize("ranks", [[], [0], [513], [4, 4]])
def test_ranks_that_cannot_be(ranks: list[int]) -> None:
    with pytest.raises(ValidationError):
        run_spec({"ranks": ranks})
