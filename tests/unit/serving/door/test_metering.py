"""What the front door counts for the ledger, with a test clock."""

from __future__ import annotations

import asyncio
import json
from datetime import date
from pathlib import Path

import pytest

from cluster.billing.prices import Price
from cluster.billing.usage import read_usage
from cluster.store.storage import Store
from runspec.errors import StoreError
from runspec.publish import ServingSpec
from serving.door.gate import Visit
from serving.door.metering import Bookkeeper, Meter
from serving.plan import ServePlan


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meter(clock: Clock, tmp_path: Path) -> Meter:
    price = Price(usd_per_hour=3.6, source="run file", date=date(2026, 11, 24))
    spec = ServingSpec(min_replicas=1, max_replicas=2, usage_every_s=10)
    plan = ServePlan(tmp_path, "folder:abc", "base", str(tmp_path), spec, "cpu", "float32", price=price)
    return Meter(plan, clock)


def visit(model: str | None = "fruit@1", status: int = 200, tokens: int = 5, seconds: float = 2) -> Visit:
    usage = json.dumps({"prompt_tokens": 10, "completion_tokens": tokens}) if status == 200 else None
    return Visit(
        began_at=0, model=model, usage=usage, first_token_at=0.5, http_status=status, complete=True, ended_at=seconds
    )


def test_requests_are_added_up_by_model(meter: Meter) -> None:
    for one in (
        visit(),
        visit(tokens=3, seconds=4),
        visit(status=429),
        visit(status=503),
        visit("base"),
        visit(None, 401),
    ):
        meter.record(one)
    record = meter.cut()
    fruit, base, unknown = record.models
    assert (fruit.model, fruit.requests, fruit.refused, fruit.failed) == ("fruit@1", 4, 1, 1)
    assert (fruit.prompt_tokens, fruit.completion_tokens, fruit.seconds, fruit.seconds_to_first_token) == (20, 8, 6, 1)
    assert (base.model, base.requests) == ("base", 1)
    assert (unknown.model, unknown.requests, unknown.refused, unknown.seconds) == (None, 1, 1, 0)
    assert (record.price_usd_per_hour, record.price_source, record.base_digest) == (3.6, "run file", "folder:abc")


def test_replica_time_is_counted_whether_busy_or_not(meter: Meter, clock: Clock) -> None:
    clock.now += 5
    with meter.at_work():
        clock.now += 10
        meter.replicas(2)
        with meter.at_work(), meter.at_work():
            clock.now += 10  # three requests keep two replicas busy, not three
    clock.now += 1
    record = meter.cut()
    assert record.replica_seconds == pytest.approx(5 + 10 + 2 * 10 + 2)
    assert record.busy_replica_seconds == pytest.approx(10 + 2 * 10)


def test_intervals_follow_each_other(meter: Meter, clock: Clock) -> None:
    clock.now += 3
    first = meter.cut()
    clock.now += 4
    second = meter.cut()
    assert (first.seq, second.seq) == (0, 1)
    assert second.started_at == first.ended_at
    assert (first.replica_seconds, second.replica_seconds) == (3, 4)
    assert first.server == second.server


def test_a_record_is_due_after_requests_or_a_long_quiet_time(meter: Meter, clock: Clock) -> None:
    clock.now += 11
    assert not meter.due()
    meter.record(visit())
    assert meter.due()
    meter.cut()
    clock.now += 99
    assert not meter.due()
    clock.now += 2
    assert meter.due()


class Shaky(Store):
    """Writes, and now and then loses its answer."""

    fails: list[str]

    def create(self, path: str, data: bytes) -> None:
        fault = self.fails.pop(0) if self.fails else ""
        if fault != "before":
            super().create(path, data)
        if fault:
            raise StoreError("no answer")


def test_what_could_not_be_written_is_written_later_and_once(meter: Meter, tmp_path: Path) -> None:
    store = Shaky(str(tmp_path / "store"))
    store.fails = ["before", "after"]
    books = Bookkeeper(meter, store, lambda: None)

    async def three_times() -> None:
        for tokens in (1, 2, 3):
            meter.record(visit(tokens=tokens))
            await books.write()

    asyncio.run(three_times())
    records = read_usage(store)
    assert [record.models[0].completion_tokens for record in records] == [1, 2, 3]


def test_replicas_are_counted_and_records_written_in_the_background(
    meter: Meter, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.door.metering.LOOK_EVERY_S", 0.01)
    store = Store(str(tmp_path / "store"))

    async def a_while() -> None:
        task = asyncio.create_task(Bookkeeper(meter, store, lambda: 2).run())
        meter.record(visit())
        clock.now += 20
        while not store.walk("usage"):
            await asyncio.sleep(0.01)
        clock.now += 5
        task.cancel()

    asyncio.run(a_while())
    (record,) = read_usage(store)
    assert record.models[0].requests == 1
    assert meter.cut().replica_seconds == pytest.approx(10)
