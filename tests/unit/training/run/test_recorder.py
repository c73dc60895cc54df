"""What the ledger says of a run: time by phase, and a new attempt where a group of workers was replaced."""

from pathlib import Path

import pytest

from cluster.billing.ledger import Attempt, Ledger
from cluster.billing.prices import Price
from cluster.machine.hardware import detect
from cluster.store.storage import open_store
from training.run.recorder import Recorder
from training.worker.job import Event


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def step(number: int, tokens: float) -> Event:
    return Event("step", number, 10, {"loss": 1.0, "tokens": tokens, "memory_bytes": 0}, phase="training")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(open_store(str(tmp_path)), "trial-20260101-000000-abcd")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorder(ledger: Ledger, clock: Clock) -> Recorder:
    price = Price(usd_per_hour=3.6, source="the test", date="2026-01-01")
    return Recorder(lambda: ledger.start(detect(), workers=2, price=price), clock)


def play(recorder: Recorder, clock: Clock, events: list[tuple[float, Event]]) -> None:
    for seconds, event in events:
        clock.now += seconds
        recorder.handle(event)


def test_time_goes_to_the_phase_that_an_event_ends(ledger: Ledger, recorder: Recorder, clock: Clock) -> None:
    events = [
        (5, Event("stage", text="measuring", phase="starting")),
        (20, Event("stage", text="training", phase="evaluating")),
        (4, Event("group_started", phase="starting")),
        (1, Event("begun", 0, 10, {"tokens": 0}, phase="starting")),
        (10, step(1, 100)),
        (10, step(2, 200)),
        (2, Event("checkpoint", 2, 10, phase="checkpointing")),
    ]
    play(recorder, clock, events)
    clock.now += 3
    recorder.close("finished")
    (attempt,) = ledger.attempts()
    wanted = {"starting": 10, "evaluating": 20, "training": 20, "checkpointing": 2, "idle": 3}
    assert dict(attempt.seconds) == pytest.approx(wanted)
    assert attempt.cost_usd == pytest.approx(55 / 1000)
    assert (attempt.step, attempt.tokens, attempt.outcome) == (2, 200, "finished")


def test_a_replaced_group_is_a_new_attempt_and_what_it_does_again_is_said(
    ledger: Ledger, recorder: Recorder, clock: Clock
) -> None:
    lost = [(0, Event("group_started")), *((1, step(number, 100 * number)) for number in range(1, 6))]
    again = [
        (30, Event("group_started", phase="starting")),
        (9, Event("resumed", 3, 10, {"tokens": 300}, phase="starting")),
        *((1, step(number, 100 * number)) for number in range(4, 11)),
    ]
    play(recorder, clock, [*lost, *again])
    recorder.close("finished")
    first, second = ledger.attempts()
    assert (first.outcome, first.step, first.tokens) == ("worker_lost", 5, 500)
    assert first.seconds["idle"] == pytest.approx(30)
    assert (second.outcome, second.step, second.tokens) == ("finished", 10, 700)
    assert second.recomputed_steps == 2
    assert second.seconds["recomputed"] == pytest.approx(2)
    assert second.seconds["training"] == pytest.approx(5)


def test_dollars_add_up_over_lost_groups_of_workers(ledger: Ledger, recorder: Recorder, clock: Clock) -> None:
    play(recorder, clock, [(10, Event("group_started", phase="starting")), (100, step(1, 100))])
    clock.now += 10  # in the middle of a step
    assert recorder.usd == pytest.approx(0.120)
    play(recorder, clock, [(30, Event("group_started", phase="starting")), (50, step(1, 100))])
    assert recorder.usd == pytest.approx(0.200)
    recorder.close("over_budget", "the budget was spent")
    clock.now += 1000
    assert recorder.usd == pytest.approx(0.200)
    assert sum(attempt.cost_usd for attempt in ledger.attempts()) == pytest.approx(0.200)
    assert [attempt.outcome for attempt in ledger.attempts()] == ["worker_lost", "over_budget"]


def test_the_last_checkpoint_is_known_after_a_lost_group_too(recorder: Recorder, clock: Clock) -> None:
    assert recorder.kept_step is None
    play(
        recorder,
        clock,
        [(1, Event("group_started")), (1, step(1, 9)), (1, Event("checkpoint", 1, 10)), (1, step(2, 9))],
    )
    play(recorder, clock, [(1, Event("group_started"))])
    assert recorder.kept_step == 1
    play(recorder, clock, [(1, Event("resumed", 1, 10, {"tokens": 9}))])
    assert recorder.kept_step == 1


def test_a_driver_that_never_said_how_it_ended_counts_up_to_its_last_word(
    ledger: Ledger, recorder: Recorder, clock: Clock
) -> None:
    play(recorder, clock, [(0, Event("group_started")), (7, step(1, 50)), (1, Event("checkpoint", 1, 10))])
    (attempt,) = ledger.attempts()
    assert isinstance(attempt, Attempt)
    assert attempt.outcome == "lost"
    assert attempt.seconds["training"] == pytest.approx(7)
