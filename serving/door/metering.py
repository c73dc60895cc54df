"""Counts a server's requests, tokens and replica time: for the ledger in the store, and for Prometheus."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from typing import Any

from cluster.billing.usage import ModelCounts, UsageRecord, new_server_id, write_usage
from cluster.machine.identity import host_name, user_name
from cluster.store.storage import Store
from runspec.errors import ConflictError, StoreError
from serving.door.gate import Visit
from serving.plan import ServePlan

log = logging.getLogger(__name__)

QUIET_INTERVALS = 10
"""An interval without requests is written once it has lasted this many times `usage_every_s`."""
LOOK_EVERY_S = 2.0
"""How often the replicas are counted."""
KEPT = 1000
"""Records kept at most while the store does not answer."""
SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300]
"""Upper bounds of the histograms' buckets."""


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
    started_at: datetime
    replica_seconds: float = 0.0
    busy_replica_seconds: float = 0.0
    counts: dict[tuple[str | None, str | None], _Counts] = field(default_factory=dict)


class Meter:
    """Adds visits up into intervals. Used from one event loop; it never waits."""

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
        """Around the time in which replicas work on a request."""
        self._tick()
        self._at_work += 1
        try:
            yield
        finally:
            self._tick()
            self._at_work -= 1

    def replicas(self, number: int) -> None:
        """How many replicas there are from now on, including those that are starting or stopping."""
        self._tick()
        self._replicas = number

    def due(self) -> bool:
        """Whether a record should be written."""
        seconds = self._clock() - self._began
        every = self._plan.spec.usage_every_s
        return seconds >= every and (bool(self._interval.counts) or seconds >= every * QUIET_INTERVALS)

    def cut(self) -> UsageRecord:
        """The record of what has been counted since the last one. Counting starts again."""
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


class Bookkeeper:
    """Counts the replicas, and writes the meter's records. A record that could not be written is kept for later.

    Args:
        count_replicas: asks the cluster, on a thread; None if it does not know.
    """

    def __init__(self, meter: Meter, store: Store, count_replicas: Callable[[], int | None]) -> None:
        self._meter = meter
        self._store = store
        self._count_replicas = count_replicas
        self._waiting: deque[UsageRecord] = deque(maxlen=KEPT)
        self._writing = Lock()  # the last write may begin while one that was cancelled is still on its thread

    async def run(self) -> None:
        """Keep the books until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            number = await asyncio.to_thread(self._count_replicas)
            if number is not None:
                self._meter.replicas(number)
            if self._meter.due():
                await self.write()

    async def write(self) -> None:
        """Write what has been counted since the last record."""
        self._waiting.append(self._meter.cut())
        await asyncio.to_thread(self._write_waiting)

    def _write_waiting(self) -> None:
        with self._writing:
            while self._waiting:
                try:
                    write_usage(self._store, self._waiting[0])
                except ConflictError:  # it was written before, and only the store's reply was lost
                    pass
                except StoreError as error:
                    log.warning("usage is not written yet (%s records wait): %s", len(self._waiting), error.what)
                    return
                self._waiting.popleft()


class RequestMetrics:
    """Prometheus metrics, which Ray exposes with its own and vLLM's on each node's metrics port.

    A request without a model or a key is counted under `-`.
    """

    def __init__(self) -> None:
        from ray.util.metrics import Counter, Histogram  # Ray has to be connected

        labels = ("model", "key")
        self._requests = Counter("guitarfish_requests", "Requests that ended.", (*labels, "status"))
        self._prompt = Counter("guitarfish_prompt_tokens", "Prompt tokens, as counted by the engine.", labels)
        self._completion = Counter("guitarfish_completion_tokens", "Answer tokens, as counted by the engine.", labels)
        self._first: Any = Histogram(
            "guitarfish_seconds_to_first_token", "From arrival to the first token.", SECONDS, labels
        )
        self._loads: Any = Histogram(
            "guitarfish_adapter_load_seconds", "To fetch, load and check an adapter.", SECONDS, ("model",)
        )
        self._whole: Any = Histogram("guitarfish_request_seconds", "From arrival to the last token.", SECONDS, labels)

    def record(self, visit: Visit) -> None:
        """Count a request that has ended."""
        tags = {"model": visit.model or "-", "key": visit.key.id if visit.key else "-"}
        self._requests.inc(1, {**tags, "status": visit.status})
        prompt, completion = visit.tokens
        if prompt:
            self._prompt.inc(prompt, tags)
        if completion:
            self._completion.inc(completion, tags)
        if visit.load_seconds:
            self._loads.observe(visit.load_seconds, {"model": tags["model"]})
        if visit.status == "2xx":
            self._whole.observe(visit.ended_at - visit.began_at, tags)
            self._first.observe((visit.first_token_at or visit.ended_at) - visit.began_at, tags)
