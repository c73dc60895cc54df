"""What runs cost together: failed attempts and recomputed steps, labels, users, days, and what is damaged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster.billing.ledger import Ledger, Outcome, Phase, by_phase
from cluster.billing.prices import Price
from cluster.billing.spending import attempt_costs, grouped, read_runs, run_cost, spending, with_labels, within
from cluster.machine.hardware import detect
from cluster.store.storage import Store, open_store

NOW = datetime.now(UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def add(
    store: Store,
    run_id: str,
    *attempts: tuple[Outcome | None, Mapping[Phase, float], int],
    price: float = 3.6,
    **labels: str,
) -> None:
    """A run with these attempts: outcome (None: none yet), seconds by phase, tokens. A second costs $0.001."""
    spec = {"name": run_id.partition("-")[0], "labels": labels, "a key of another version": 1}
    store.create(f"runs/{run_id}/spec.json", json.dumps(spec).encode())
    for outcome, seconds, tokens in attempts:
        source = Price(usd_per_hour=price, source="run file", date=date(2026, 11, 24))
        writer = Ledger(store, run_id).start(detect(), workers=1, price=source)
        if outcome is None:
            writer.progress(step=1, tokens=tokens, seconds=seconds)
        else:
            writer.end(outcome, step=1, tokens=tokens, seconds=seconds)


def rewritten(store: Store, event: str, **values: Any) -> None:
    """Change an event where it lies, as no program does."""
    file = Path(store.uri, event)
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_failures_and_repeated_steps_are_counted_and_named(store: Store) -> None:
    add(
        store,
        "a-1",
        ("failed", {"training": 100}, 1000),
        ("worker_lost", {"training": 40, "recomputed": 10}, 500),
        ("over_budget", {"training": 50}, 500),
        ("finished", {"recomputed": 20, "evaluating": 80}, 0),
    )
    (run,), damaged = read_runs(store)
    total = run_cost(run, NOW).spending
    assert damaged == []
    assert (total.attempts, total.tokens, total.seconds) == (4, 2000, 300)
    assert total.usd == pytest.approx(0.300)
    assert total.failed_usd == pytest.approx(0.150)
    assert total.recomputed_usd == pytest.approx(0.030)
    assert total.usd_per_million_tokens == pytest.approx(150)
    phases = by_phase(run.attempts)
    assert [(one.phase, one.seconds) for one in phases] == [("training", 190), ("evaluating", 80), ("recomputed", 30)]
    assert sum(one.usd for one in phases) == pytest.approx(total.usd)


def test_an_attempt_that_is_going_on_has_not_failed(store: Store) -> None:
    add(store, "a-1", (None, {"training": 100}, 10))
    (run,), _ = read_runs(store)
    assert run_cost(run, NOW).spending.failed_usd == 0
    assert [line.outcome for line in attempt_costs(run, NOW)] == ["running"]
    later = datetime.now(UTC) + timedelta(minutes=10)  # NOW is from when the tests were collected
    assert run_cost(run, later).spending.failed_usd == pytest.approx(0.1)
    assert [line.outcome for line in attempt_costs(run, later)] == ["lost"]


def test_a_search_is_not_paid_twice(store: Store) -> None:
    """Its own attempt has no price while its trials have theirs."""
    add(store, "s-tune", ("finished", {"evaluating": 10}, 0))
    free = Price(usd_per_hour=0, source="its trials carry the cost", date=date(2026, 11, 24))
    Ledger(store, "s-tune").start(detect(), workers=1, price=free).end(
        "finished", step=0, tokens=0, seconds={"idle": 1000}
    )
    add(store, "s-tune-t00", ("pruned", {"training": 30}, 10))
    runs, _ = read_runs(store)
    assert spending((one for run in runs for one in run.attempts), NOW).usd == pytest.approx(0.040)


def test_groups_add_up_to_all(store: Store) -> None:
    add(store, "a-1", ("finished", {"training": 100}, 10), team="search")
    add(store, "a-2", ("failed", {"training": 50}, 10), team="search", tier="low")
    add(store, "b-3", ("finished", {"training": 300}, 10), team="ads")
    add(store, "c-4", ("finished", {"training": 7}, 10))
    add(store, "d-5")
    runs, _ = read_runs(store)
    teams = grouped(runs, "team", NOW)
    assert [(group.value, group.runs, round(group.spending.usd, 3)) for group in teams] == [
        ("ads", 1, 0.3),
        ("search", 2, 0.15),
        (None, 2, 0.007),
    ]
    assert [group.value for group in grouped(runs, "name", NOW)] == ["b", "a", "c", "d"]
    assert [run.run_id for run in with_labels(runs, {"team": "search", "tier": "low"})] == ["a-2"]
    assert len(with_labels(runs, {})) == 5


def test_by_user_each_attempt_goes_to_who_started_it(store: Store) -> None:
    add(store, "a-1", ("interrupted", {"training": 100}, 10), ("finished", {"training": 50}, 10))
    rewritten(store, "runs/a-1/attempts/1/0.json", user="ann")
    rewritten(store, "runs/a-1/attempts/2/0.json", user="bob")
    groups = grouped(read_runs(store)[0], "user", NOW)
    assert [(group.value, group.runs, round(group.spending.usd, 3)) for group in groups] == [
        ("ann", 1, 0.1),
        ("bob", 1, 0.05),
    ]


def test_days_choose_attempts_not_runs(store: Store) -> None:
    add(store, "a-1", ("failed", {"training": 100}, 10), ("finished", {"training": 50}, 10))
    add(store, "b-2")
    rewritten(store, "runs/a-1/attempts/1/0.json", started_at="2026-10-31T23:59:59Z")
    rewritten(store, "runs/a-1/attempts/2/0.json", started_at="2026-11-01T00:30:00+01:00")
    runs, _ = read_runs(store)

    def chosen(since: date | None, until: date | None) -> list[list[int]]:
        return [[one.start.attempt for one in run.attempts] for run in within(runs, since, until)]

    assert len(within(runs, None, None)) == 2
    assert chosen(date(2026, 10, 31), date(2026, 10, 31)) == [[1, 2]]  # half past midnight in Paris is still October
    assert chosen(date(2026, 11, 1), None) == []
    rewritten(store, "runs/a-1/attempts/2/0.json", started_at="2026-11-01T00:00:00Z")
    runs, _ = read_runs(store)
    assert chosen(date(2026, 11, 1), None) == [[2]]
    assert chosen(None, date(2026, 10, 31)) == [[1]]


@pytest.mark.parametrize("file", ["spec.json", "attempts/1/0.json", "attempts/1/1.json"])
@pytest.mark.parametrize("content", ["", "[]", "{}", "{"])
def test_what_is_damaged_is_named_and_hides_nothing(store: Store, file: str, content: str) -> None:
    add(store, "bad-1", ("finished", {"training": 100}, 10))
    add(store, "good-2", ("finished", {"training": 50}, 10))
    Path(store.uri, "runs/bad-1", file).write_text(content)
    runs, (error,) = read_runs(store)
    assert [run.run_id for run in runs] == ["good-2"]
    assert "damaged" in error.what
    assert error.where.endswith(f"runs/bad-1/{file}")


def test_named_runs_only(store: Store) -> None:
    for run_id in ("a-1", "a-1-t00", "b-2"):
        add(store, run_id, ("finished", {"training": 1}, 1))
    assert {run.run_id for run in read_runs(store, ["a-1", "a-1-t00"])[0]} == {"a-1", "a-1-t00"}
