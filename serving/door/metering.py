"""Counts what is asked of a server, for the ledger: by model and key, and how long its replicas were there for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cluster.billing.usage import ModelCounts, UsageRecord, new_server_id
from cluster.machine.identity import host_name, user_name
from serving.door.gate import Visit
from serving.plan import ServePlan

QUIET_INTERVALS = 10
"""An interval in which nothing was asked is written all the same once it has lasted as long as this many."""


@dataclass
class _Counts:
    requests: int = 0
    failed: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds_to_first_token: float = 0.0
    seconds: float = 0.0
    adapter_loads: int = 0
    adapter_load_seconds: float = 0.0

    def add(self, visit: Visit) -> None:
        prompt, completion = visit.tokens
        self.requests += 1
        self.failed += visit.status == "5xx"
        self.refused += visit.status == "4xx"
        self.prompt_tokens += prompt
        self.completion_tokens += completion
        self.adapter_loads += visit.load_seconds > 0
        self.adapter_load_seconds += visit.load_seconds
        if visit.status in ("2xx", "cancelled"):
            self.seconds += visit.ended_at - visit.began_at
            self.seconds_to_first_token += (visit.first_token_at or visit.ended_at) - visit.began_at


@dataclass
class _Interval:
    """What has been counted since the last record."""

    started_at: datetime
    replica_seconds: float = 0.0
    busy_replica_seconds: float = 0.0
    counts: dict[tuple[str | None, str | None], _Counts] = field(default_factory=dict)


class Meter:
    """Adds visits up into intervals. Used from one event loop; it waits for nothing.

    Args:
        plan: base model, price and how often a record is due.
        clock: seconds, which only go forward.
    """

    def __init__(self, plan: ServePlan, clock: Callable[[], float] = time.monotonic) -> None:
        self.server = new_server_id()
        self._plan = plan
        self._clock = clock
        self._interval = _Interval(datetime.now(UTC))
        self._began = self._at = clock()
        self._seq = 0
        self._replicas = plan.spec.min_replicas
        self._at_work = 0

    def record(self, visit: Visit) -> None:
        """Count a request that has ended."""
        key = (visit.model, visit.key.id if visit.key else None)
        self._interval.counts.setdefault(key, _Counts()).add(visit)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Around the time in which a request is in the replicas' hands."""
        self._tick()
        self._at_work += 1
        try:
            yield
        finally:
            self._tick()
            self._at_work -= 1

    def replicas(self, number: int) -> None:
        """How many replicas there are from now on, those that are starting or stopping too."""
        self._tick()
        self._replicas = number

    def due(self) -> bool:
        """Whether a record should be written."""
        seconds = self._clock() - self._began
        every = self._plan.spec.usage_every_s
        return seconds >= every and (bool(self._interval.counts) or seconds >= every * QUIET_INTERVALS)

    def cut(self) -> UsageRecord:
        """The record of what has been counted since the last one. Counting begins anew."""
        self._tick()
        ended, interval = datetime.now(UTC), self._interval
        record = UsageRecord(
            server=self.server,
            seq=self._seq,
            host=host_name(),
            user=user_name(),
            base_model=self._plan.base_name,
            base_digest=self._plan.base_digest,
            price_usd_per_hour=self._plan.price.usd_per_hour,
            price_source=self._plan.price.source,
            price_date=self._plan.price.date,
            started_at=interval.started_at,
            ended_at=ended,
            replica_seconds=interval.replica_seconds,
            busy_replica_seconds=interval.busy_replica_seconds,
            models=tuple(
                ModelCounts(model=model, key=key, **vars(counts)) for (model, key), counts in interval.counts.items()
            ),
        )
        self._interval = _Interval(ended)
        self._began = self._at
        self._seq += 1
        return record

    def _tick(self) -> None:
        now = self._clock()
        self._interval.replica_seconds += (now - self._at) * self._replicas
        self._interval.busy_replica_seconds += (now - self._at) * min(self._at_work, self._replicas)
        self._at = now
