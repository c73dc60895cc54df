"""The ledger: attempts of a run, told as they happen, and what they cost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from cluster.billing.ledger import Ledger, total_cost
from cluster.billing.prices import Price
from cluster.machine.hardware import detect
from cluster.store.runs import RunFolder, find_run, list_runs, new_run_id, state_of
from cluster.store.storage import Store, open_store
from runspec.errors import StoreError

PRICE = Price(usd_per_hour=7.2, source="run file", date=date(2026, 11, 23))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return open_store(str(tmp_path / "store"))


def test_attempts_and_their_cost(store: Store) -> None:
    ledger = Ledger(store, "r")
    first = ledger.start(detect(), workers=2, price=PRICE)
    first.progress(step=10, tokens=100, seconds={"training": 5})
    first.progress(step=20, tokens=200, seconds={"training": 10, "starting": 10})
    second = ledger.start(detect(), workers=2, price=PRICE)
    second.progress(step=20, tokens=0, seconds={"recomputed": 5})
    second.end(
        "finished", step=40, tokens=300, recomputed_steps=5, seconds={"recomputed": 5, "training": 20, "idle": 5}
    )
    lost, finished = ledger.attempts()
    assert (lost.outcome, lost.step, lost.tokens, lost.seconds_total) == ("lost", 20, 200, 20)
    assert (finished.outcome, finished.recomputed_steps, finished.start.attempt) == ("finished", 5, 2)
    assert lost.cost_usd == pytest.approx(20 * 7.2 / 3600)
    cost = total_cost([lost, finished])
    assert cost.usd == pytest.approx(50 * 7.2 / 3600)
    assert cost.hours == pytest.approx(50 / 3600)
    assert cost.by_phase == {"training": 30, "starting": 10, "recomputed": 5, "idle": 5}


def test_an_attempt_that_only_started(store: Store) -> None:
    Ledger(store, "r").start(detect(), workers=1, price=PRICE)
    (attempt,) = Ledger(store, "r").attempts()
    assert (attempt.outcome, attempt.seconds_total, attempt.cost_usd, attempt.step) == ("lost", 0, 0, 0)
    assert attempt.start.price_usd_per_hour == 7.2
    assert attempt.start.hardware == detect()


def test_more_than_ten_events_and_attempts_stay_in_order(store: Store) -> None:
    ledger = Ledger(store, "r")
    for number in range(1, 13):
        writer = ledger.start(detect(), workers=1, price=PRICE)
        assert writer.start.attempt == number
    for step in range(12):
        writer.progress(step=step, tokens=step, seconds={})
    attempts = ledger.attempts()
    assert [attempt.start.attempt for attempt in attempts] == list(range(1, 13))
    assert attempts[-1].step == 11


def test_racing_drivers_get_different_attempts(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        started = list(pool.map(lambda _: Ledger(store, "r").start(detect(), workers=1, price=PRICE), range(8)))
    assert sorted(writer.start.attempt for writer in started) == list(range(1, 9))


def test_a_run_without_attempts_costs_nothing(store: Store) -> None:
    assert Ledger(store, "none").attempts() == []
    assert total_cost([]).usd == 0


@pytest.mark.parametrize("content", ["", '{"kind": "started"}', "[]", '{"kind": "other"}'])
def test_a_damaged_event_is_named(store: Store, tmp_path: Path, content: str) -> None:
    Ledger(store, "r").start(detect(), workers=1, price=PRICE).progress(step=1, tokens=1, seconds={})
    (tmp_path / "store/runs/r/attempts/1/0.json").write_text(content)
    with pytest.raises(StoreError, match=r"(?s)damaged.*runs/r/attempts/1/0\.json"):
        Ledger(store, "r").attempts()


def test_runs_are_listed_newest_first(store: Store) -> None:
    for run_id in ("a-20260101-000000-aaaa", "b-20260102-000000-bbbb", "c-20260103-000000-cccc"):
        store.create(f"runs/{run_id}/spec.json", b"{}")
        store.create(f"runs/{run_id}/checkpoints/step-1/adapter", b"")
    done = RunFolder(store, "a-20260101-000000-aaaa")
    writer = Ledger(store, done.run_id).start(detect(), workers=1, price=PRICE)
    writer.end("finished", step=5, tokens=10, seconds={"training": 36})
    store.create(done.receipt_path, b"{}")
    store.create(done.publication_path, b"{}")
    Ledger(store, "b-20260102-000000-bbbb").start(detect(), workers=1, price=PRICE)
    runs = {run.run_id[0]: run for run in list_runs(store)}
    assert [run.run_id[0] for run in list_runs(store)][-1] == "c"  # began before the attempts of the others
    assert (runs["a"].state, runs["a"].published, runs["a"].step) == ("finished", True, 5)
    assert runs["a"].cost_usd == pytest.approx(0.072)
    assert (runs["b"].state, runs["b"].attempts, runs["b"].published) == ("running", 1, False)
    assert runs["c"].state == "new"


def test_a_silent_attempt_counts_as_lost(store: Store) -> None:
    Ledger(store, "r").start(detect(), workers=1, price=PRICE)
    attempts = Ledger(store, "r").attempts()
    assert state_of(attempts, datetime.now(UTC)) == "running"
    assert state_of(attempts, datetime.now(UTC) + timedelta(minutes=10)) == "lost"


def test_find_run(store: Store) -> None:
    first, second = "smart-20260101-000000-aaaa", "smart-20260102-000000-bbbb"
    for run_id in (first, second):
        store.create(f"runs/{run_id}/spec.json", b"{}")
    assert find_run(store, first) == first
    assert find_run(store, "smart-20260102") == second
    with pytest.raises(StoreError, match=f"(?s)2 runs begin with 'smart'.*{second}"):
        find_run(store, "smart")
    with pytest.raises(StoreError, match=f"(?s)No run named 'smart-20260101-000000-aaab'.*Did you mean {first}"):
        find_run(store, "smart-20260101-000000-aaab")
    with pytest.raises(StoreError, match="This store has no runs"):
        find_run(open_store(f"{store.uri}-empty"), "x")


def test_run_ids_are_named_dated_and_different() -> None:
    made = {new_run_id("home") for _ in range(20)}
    assert len(made) > 15
    assert all(run_id.startswith("home-2") and len(run_id) == len("home-20260101-000000-aaaa") for run_id in made)
