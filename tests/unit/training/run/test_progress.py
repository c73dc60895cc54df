"""Events folded into what the live view shows."""

import pytest

from training.run.progress import RunState
from training.worker.job import Event


def step(number: int, tokens: float) -> Event:
    return Event("step", number, 20, {"loss": 3.0 / number, "tokens": tokens, "memory_bytes": 2**30})


def test_speed_and_time_left_come_from_the_last_steps() -> None:
    state = RunState()
    state.apply(Event("begun", 0, 20), now=0)
    for number in range(1, 6):
        state.apply(step(number, tokens=400.0 * number), now=10.0 + 2 * number)
    assert state.tokens_per_second == pytest.approx(200)
    assert state.seconds_left == pytest.approx(2 * 15)
    assert state.loss == pytest.approx(0.6)
    assert state.first_loss == 3.0


def test_a_restart_does_not_count_its_pause_as_training_speed() -> None:
    state = RunState()
    state.apply(step(1, 400), now=0)
    state.apply(step(2, 800), now=2)
    state.apply(Event("group_started"), now=60)
    state.apply(Event("resumed", 1, 20), now=61)
    assert state.tokens_per_second is None
    assert "continues after step 1 of 20" in state.notes


def test_stages_are_timed() -> None:
    state = RunState()
    state.apply(Event("stage", text="preparing the data"), now=5)
    state.apply(Event("stage", text="training"), now=8)
    state.apply(Event("stage", text="done"), now=20)
    assert state.done == [("preparing the data", 3), ("training", 12)]
