"""Usage of serving in the ledger: written once, read back, and shared out among models."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster.billing.usage import (
    IDLE,
    NO_MODEL,
    ModelCounts,
    UsageRecord,
    new_server_id,
    read_usage,
    usage_by_model,
    write_usage,
)
from cluster.store.storage import Store, open_store
from runspec.errors import ConflictError, StoreError

BEGAN = datetime(2026, 11, 24, 10, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return open_store(str(tmp_path / "store"))


def counts(model: str | None, seconds: float, **changes: Any) -> ModelCounts:
    """One answered request of 10 + 5 tokens."""
    values: dict[str, Any] = {
        "model": model,
        "key": None,
        "requests": 1,
        "failed": 0,
        "refused": 0,
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "seconds_to_first_token": seconds / 4,
        "seconds": seconds,
    }
    return ModelCounts(**(values | changes))


def record(*models: ModelCounts, server: str = "s", seq: int = 0, busy: float = 60, replicas: int = 1) -> UsageRecord:
    """A minute at 3.60 an hour: a tenth of a cent a replica second."""
    start = BEGAN + timedelta(minutes=seq)
    return UsageRecord(
        server=server,
        seq=seq,
        host="h",
        user="u",
        base_model="base",
        base_digest="folder:0",
        price_usd_per_hour=3.6,
        price_source="run file",
        price_date=date(2026, 11, 24),
        started_at=start,
        ended_at=start + timedelta(minutes=1),
        replica_seconds=60 * replicas,
        busy_replica_seconds=busy,
        models=models,
    )


def test_records_are_read_back_in_their_order(store: Store) -> None:
    written = [record(counts("fruit@1", 1), seq=seq) for seq in range(11)] + [record(server="t")]
    for one in reversed(written):
        write_usage(store, one)
    assert read_usage(store) == written
    with pytest.raises(ConflictError):
        write_usage(store, written[0])


def test_an_empty_store_has_no_usage(store: Store) -> None:
    assert read_usage(store) == []
    assert usage_by_model([]) == []


def test_a_damaged_record_is_named(store: Store) -> None:
    store.create("usage/s/0.json", b'{"server": 3}')
    with pytest.raises(StoreError) as caught:
        read_usage(store)
    assert caught.value.where.endswith("usage/s/0.json")


def test_busy_time_is_shared_by_seconds_and_idle_time_is_a_line_of_its_own() -> None:
    base, fruit, idle = usage_by_model([record(counts("fruit@1", 10), counts("base", 30), busy=40)])
    assert (base.model, fruit.model, idle.model) == ("base", "fruit@1", IDLE)
    assert base.usd == pytest.approx(0.030)
    assert fruit.usd == pytest.approx(0.010)
    assert idle.usd == pytest.approx(0.020)
    assert fruit.usd_per_million_tokens == pytest.approx(0.010 / 15 * 1e6)
    assert (idle.requests, idle.usd_per_million_tokens, idle.mean_seconds) == (0, None, None)


def test_every_dollar_is_somebodys() -> None:
    records = [
        record(counts("fruit@1", 100), counts("fruit@2", 7), counts(None, 0, refused=1), seq=0, busy=55, replicas=2),
        record(seq=1, busy=0),
        record(counts("fruit@1", 3), seq=2, busy=70),  # a clock that is off by a little costs nobody more than there is
    ]
    total = sum(one.cost_usd for one in records)
    assert sum(usage.usd for usage in usage_by_model(records)) == pytest.approx(total)


def test_means_are_over_answered_requests() -> None:
    many = counts("fruit@1", 12, requests=6, failed=1, refused=1)
    (usage,) = usage_by_model([record(many, counts("fruit@1", 4, key="k"))])
    assert (usage.requests, usage.failed, usage.refused) == (7, 1, 1)
    assert usage.mean_seconds == pytest.approx(16 / 5)
    assert usage.mean_seconds_to_first_token == pytest.approx(4 / 5)
    assert (usage.prompt_tokens, usage.completion_tokens) == (20, 10)


def test_requests_that_named_no_model_are_counted_and_cost_nothing() -> None:
    refused = counts(None, 0, refused=1, prompt_tokens=0, completion_tokens=0)
    nobody, idle = usage_by_model([record(refused, busy=0)])
    assert (nobody.model, nobody.refused, nobody.usd, nobody.usd_per_million_tokens) == (NO_MODEL, 1, 0, None)
    assert idle.usd == pytest.approx(0.06)


def test_servers_have_names_of_their_own() -> None:
    assert len({new_server_id() for _ in range(50)}) > 45
