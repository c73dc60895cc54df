"""What a search may spend, what a trial costs, and how many run at the same time."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from cluster.billing.prices import Price
from cluster.machine.session import Session
from runspec.errors import HardwareError
from runspec.run import RunSpec
from training.strategies.placement import Placement
from tuning.slots import may_start, price_of_trial, slots_of, trial_strategy

PRICE = Price(usd_per_hour=1.0, source="run file", date=date(2026, 11, 24))


@pytest.mark.parametrize(
    ("spent", "budget", "ended", "starts"),
    [
        (5.0, None, [4.0], True),
        (5.0, 6.0, [], True),  # nobody knows yet what a trial costs
        (5.0, 6.0, [2.0, 0.5], True),  # as the cheapest one did
        (5.0, 6.0, [2.0, 1.0], False),
        (6.0, 6.0, [], False),
    ],
)
def test_a_trial_starts_where_the_rest_could_carry_it(
    spent: float, budget: float | None, ended: list[float], starts: bool
) -> None:
    assert may_start(spent, budget, ended) is starts


def test_trials_share_the_price_of_a_machine_and_not_that_of_a_gpu() -> None:
    shared = price_of_trial(PRICE, Placement(workers=2, gpus_per_worker=0, cpus_per_worker=1))
    assert shared.usd_per_hour == 0.5
    assert "2 trials" in shared.source
    assert price_of_trial(PRICE, Placement(workers=2, gpus_per_worker=1, cpus_per_worker=1)) == PRICE
    assert price_of_trial(PRICE, Placement(workers=1, gpus_per_worker=0, cpus_per_worker=8)) == PRICE


def spec(**sections: Any) -> RunSpec:
    values = {
        "name": "a",
        "model": {"source": {"kind": "hub", "id": "x"}},
        "data": {"source": {"kind": "file", "path": "d"}},
        "tuning": {},
    }
    return RunSpec.model_validate(values | sections)


def session(cpus: int, gpus: int = 0) -> Session:
    return Session(cpus=cpus, gpus=gpus, largest_node_gpus=gpus, nodes=1, own=True, logs=None)


@pytest.mark.parametrize(
    ("sections", "cpus", "gpus", "trials", "expected"),
    [
        ({}, 8, 0, 9, (1, 0, 8)),  # all cores to one trial
        ({"hardware": {"cpus_per_worker": 2}}, 8, 0, 9, (4, 0, 2)),
        ({"hardware": {"cpus_per_worker": 1}}, 8, 0, 3, (3, 0, 1)),  # never more than there are trials
        ({"tuning": {"concurrent": 2}}, 8, 0, 9, (2, 0, 4)),  # two halves
        ({}, 32, 4, 9, (4, 1, 8)),  # one a GPU
        ({"tuning": {"concurrent": 2}}, 32, 4, 9, (2, 1, 8)),
        ({"strategy": {"kind": "device_map"}, "hardware": {"gpus_per_worker": 2}}, 32, 4, 9, (2, 2, 8)),
    ],
)
def test_slots(sections: dict[str, Any], cpus: int, gpus: int, trials: int, expected: tuple[int, int, int]) -> None:
    found = slots_of(spec(**sections), trial_strategy(spec(**sections)), session(cpus, gpus), trials)
    assert (found.workers, found.gpus_per_worker, found.cpus_per_worker) == expected


@pytest.mark.parametrize(
    ("sections", "cpus", "gpus", "fragment"),
    [
        ({"tuning": {"concurrent": 4}}, 2, 0, "4 CPU cores"),
        ({"tuning": {"concurrent": 3}, "hardware": {"cpus_per_worker": 2}}, 4, 0, "6 CPU cores"),
        ({"tuning": {"concurrent": 3}}, 32, 2, "3 GPUs"),
        ({"strategy": {"kind": "zero3"}}, 32, 2, "a trial has one worker"),
    ],
)
def test_more_than_there_is(sections: dict[str, Any], cpus: int, gpus: int, fragment: str) -> None:
    with pytest.raises(HardwareError, match=fragment) as caught:
        slots_of(spec(**sections), trial_strategy(spec(**sections)), session(cpus, gpus), 9)
    assert caught.value.fix
