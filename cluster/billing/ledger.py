"""The ledger: one append-only record for each attempt of a run, from which its cost is derived."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from cluster.billing.prices import Price
from cluster.machine.hardware import Hardware
from cluster.machine.identity import host_name, user_name
from cluster.store.records import damaged, describe, run_path
from cluster.store.storage import Store
from runspec.errors import ConflictError, StoreError
from runspec.strict import Strict

Phase = Literal["queued", "starting", "training", "evaluating", "checkpointing", "recomputed", "idle"]
Outcome = Literal["finished", "pruned", "failed", "interrupted", "over_budget", "worker_lost"]
"""`pruned`: a trial that a search stopped because others were ahead of it. `interrupted`: stopped by the user."""


class AttemptStart(Strict):
    """Who started an attempt, where, and at which price. First event, `0.json`."""

    kind: Literal["started"] = "started"
    attempt: int
    host: str
    user: str
    pid: int
    hardware: Hardware
    """Of the driver's machine (`host`). The workers' too, unless the run is on a cluster: then `price_source` names
    what was paid for, and the run's plan.json what was requested."""
    workers: int
    price_usd_per_hour: float
    """Of all workers together, pinned when the attempt starts."""
    price_source: str
    price_date: date
    budget_usd: float | None = None
    """The most that all attempts of the run together may cost, from this attempt on. Null: no limit."""
    started_at: datetime


class AttemptProgress(Strict):
    """How far an attempt has come; all numbers count from its start."""

    kind: Literal["progress"] = "progress"
    at: datetime
    step: int
    """The optimiser step reached."""
    tokens: int
    """Tokens trained on by this attempt."""
    seconds: dict[Phase, float]


class AttemptEnd(Strict):
    """How an attempt ended. Last event; an attempt without one was killed or is still running."""

    kind: Literal["ended"] = "ended"
    at: datetime
    outcome: Outcome
    reason: str
    step: int
    tokens: int
    recomputed_steps: int
    """Steps that an earlier attempt had already done."""
    seconds: dict[Phase, float]


AttemptEvent = Annotated[AttemptStart | AttemptProgress | AttemptEnd, Field(discriminator="kind")]
NOT_COUNTED = "Move the file away; the attempt's cost is then not counted."
_EVENT_PATH = re.compile(r"(?P<folder>.+/attempts)/(?P<attempt>[0-9]+)/(?P<seq>[0-9]+)\.json")
_EVENT: TypeAdapter[AttemptStart | AttemptProgress | AttemptEnd] = TypeAdapter(AttemptEvent)


@dataclass(frozen=True)
class Attempt:
    """An attempt as the ledger has it.

    Attributes:
        last: its last event; progress where the attempt is lost or running, None where it only started.
    """

    start: AttemptStart
    last: AttemptProgress | AttemptEnd | None

    @property
    def end(self) -> AttemptEnd | None:
        return self.last if isinstance(self.last, AttemptEnd) else None

    @property
    def outcome(self) -> Outcome | Literal["lost"]:
        return self.end.outcome if self.end else "lost"

    @property
    def reason(self) -> str:
        return self.end.reason if self.end else "its driver was killed, or it is still running"

    @property
    def last_at(self) -> datetime:
        """When its driver last wrote."""
        return self.last.at if self.last else self.start.started_at

    @property
    def step(self) -> int:
        return self.last.step if self.last else 0

    @property
    def tokens(self) -> int:
        return self.last.tokens if self.last else 0

    @property
    def recomputed_steps(self) -> int:
        """Steps that an earlier attempt had already done; known once it has ended."""
        return self.end.recomputed_steps if self.end else 0

    @property
    def seconds(self) -> Mapping[Phase, float]:
        return self.last.seconds if self.last else {}

    @property
    def seconds_total(self) -> float:
        return sum(self.seconds.values())

    @property
    def cost_usd(self) -> float:
        """All its seconds at its price, also where it failed."""
        return self.usd_of(self.seconds_total)

    def usd_of(self, seconds: float) -> float:
        return seconds / 3600 * self.start.price_usd_per_hour


class PhaseCost(Strict):
    """What a phase took over several attempts."""

    phase: Phase
    seconds: float
    usd: float


def by_phase(attempts: Iterable[Attempt]) -> list[PhaseCost]:
    """Seconds and dollars by phase, the longest first."""
    sums: dict[Phase, PhaseCost] = {}
    for attempt in attempts:
        for phase, seconds in attempt.seconds.items():
            before = sums.get(phase, PhaseCost(phase=phase, seconds=0.0, usd=0.0))
            sums[phase] = PhaseCost(
                phase=phase, seconds=before.seconds + seconds, usd=before.usd + attempt.usd_of(seconds)
            )
    return sorted(sums.values(), key=lambda phase: -phase.seconds)


@dataclass(frozen=True)
class Cost:
    """What a run has cost so far: dollars, hours, and seconds by phase, the longest first."""

    usd: float
    hours: float
    by_phase: dict[Phase, float]


def total_cost(attempts: Sequence[Attempt]) -> Cost:
    """The sum over attempts, failed and lost ones too."""
    return Cost(
        usd=sum(attempt.cost_usd for attempt in attempts),
        hours=sum(attempt.seconds_total for attempt in attempts) / 3600,
        by_phase={phase.phase: phase.seconds for phase in by_phase(attempts)},
    )


class AttemptWriter:
    """Appends the events of one attempt; only the process that started it has one."""

    def __init__(self, store: Store, folder: str, start: AttemptStart) -> None:
        self._store = store
        self._folder = folder
        self._next = 0
        self.start = start
        self._append(start)

    def progress(self, *, step: int, tokens: int, seconds: Mapping[Phase, float]) -> None:
        """Record how far the attempt has come since it started. Raises StoreError."""
        self._append(AttemptProgress(at=datetime.now(UTC), step=step, tokens=tokens, seconds=dict(seconds)))

    def end(
        self,
        outcome: Outcome,
        *,
        reason: str = "",
        step: int,
        tokens: int,
        recomputed_steps: int = 0,
        seconds: Mapping[Phase, float],
    ) -> None:
        """Close the attempt. Raises StoreError."""
        self._append(
            AttemptEnd(
                at=datetime.now(UTC),
                outcome=outcome,
                reason=reason,
                step=step,
                tokens=tokens,
                recomputed_steps=recomputed_steps,
                seconds=dict(seconds),
            )
        )

    def _append(self, event: AttemptStart | AttemptProgress | AttemptEnd) -> None:
        self._store.create(f"{self._folder}/{self._next}.json", event.model_dump_json(indent=1).encode())
        self._next += 1


class Ledger:
    """The attempts of one run, below runs/<run-id>/attempts/<n>/<seq>.json."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._folder = run_path(run_id, "attempts")

    def start(
        self, hardware: Hardware, *, workers: int, price: Price, budget_usd: float | None = None
    ) -> AttemptWriter:
        """Start the next attempt; drivers that start at the same time get different numbers. Raises StoreError."""
        taken = [int(name) for name in self._store.list(self._folder) if name.isdigit()]
        attempt = max(taken, default=0) + 1
        while True:
            start = AttemptStart(
                attempt=attempt,
                host=host_name(),
                user=user_name(),
                pid=os.getpid(),
                hardware=hardware,
                workers=workers,
                price_usd_per_hour=price.usd_per_hour,
                price_source=price.source,
                price_date=price.date,
                budget_usd=budget_usd,
                started_at=datetime.now(UTC),
            )
            try:
                return AttemptWriter(self._store, f"{self._folder}/{attempt}", start)
            except ConflictError:
                attempt += 1

    def attempts(self) -> list[Attempt]:
        """All attempts in order. Raises StoreError where an event is damaged."""
        return read_attempts(self._store, self._store.walk(self._folder)).get(self._folder, [])


def read_attempts(store: Store, paths: Sequence[str]) -> dict[str, list[Attempt]]:
    """Attempts by folder of their ledger, from the paths of their events; only the first and last event are read.

    Raises:
        StoreError: an event is damaged.
    """
    ledgers = read_ledgers(store, paths)
    for ledger in ledgers.values():
        if isinstance(ledger, StoreError):
            raise ledger
    return {folder: ledger for folder, ledger in ledgers.items() if not isinstance(ledger, StoreError)}


def read_ledgers(store: Store, paths: Sequence[str]) -> dict[str, list[Attempt] | StoreError]:
    """Like `read_attempts`, with the error in place of a damaged ledger, so that it hides no other."""
    events: dict[str, dict[int, list[int]]] = {}
    for path in paths:
        if match := _EVENT_PATH.fullmatch(path):
            events.setdefault(match["folder"], {}).setdefault(int(match["attempt"]), []).append(int(match["seq"]))
    ends = {
        folder: [
            (f"{folder}/{number}/{min(seqs)}.json", f"{folder}/{number}/{max(seqs)}.json")
            for number, seqs in sorted(attempts.items())
        ]
        for folder, attempts in sorted(events.items())
    }
    contents = store.read_many(sorted({path for pairs in ends.values() for pair in pairs for path in pair}))
    ledgers: dict[str, list[Attempt] | StoreError] = {}
    for folder, pairs in ends.items():
        try:
            ledgers[folder] = [_attempt(store, contents, first, last) for first, last in pairs]
        except StoreError as error:
            ledgers[folder] = error
    return ledgers


def _attempt(store: Store, contents: Mapping[str, bytes], first: str, last: str) -> Attempt:
    start = _parse(store, first, contents[first])
    if not isinstance(start, AttemptStart):
        raise damaged(store, first, "an attempt must begin with an event `started`", fix=NOT_COUNTED)
    event = _parse(store, last, contents[last]) if last != first else None
    if isinstance(event, AttemptStart):
        raise damaged(store, last, "it is a second event `started`", fix=NOT_COUNTED)
    return Attempt(start, event)


def _parse(store: Store, path: str, content: bytes) -> AttemptStart | AttemptProgress | AttemptEnd:
    try:
        return _EVENT.validate_json(content)
    except ValidationError as error:
        raise damaged(store, path, describe(error), fix=NOT_COUNTED) from None
