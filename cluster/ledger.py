"""The ledger of a run: what each attempt used, with the price pinned when it began. Cost is derived, never stored.

An attempt is a series of small files, runs/<run-id>/attempts/<n>/<seq>.json: how it started, how it stood, how it
ended. They are only ever added, so a driver that is killed leaves what it had said, and its attempt counts as lost
up to that point.
"""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from cluster.hardware import Hardware
from cluster.prices import Price
from cluster.storage import Store
from runspec.errors import ConflictError, StoreError
from runspec.strict import Strict

Phase = Literal["queued", "starting", "training", "evaluating", "checkpointing", "recomputed", "idle"]
"""What an attempt's time goes to. `recomputed`: steps that an attempt before it had done already."""
Outcome = Literal["finished", "failed", "interrupted", "worker_lost"]


class AttemptStart(Strict):
    """How an attempt began."""

    kind: Literal["start"] = "start"
    attempt: int
    at: datetime
    host: str
    user: str
    pid: int
    hardware: Hardware
    workers: int
    price_usd_per_hour: float
    price_source: str
    price_date: str


class AttemptProgress(Strict):
    """How an attempt stood."""

    kind: Literal["progress"] = "progress"
    at: datetime
    step: int
    """Optimiser steps done, those before this attempt included."""
    tokens: int
    """Tokens trained on in this attempt."""
    seconds: dict[Phase, float]
    """By phase, since the attempt began."""


class AttemptEnd(Strict):
    """How an attempt ended."""

    kind: Literal["end"] = "end"
    at: datetime
    outcome: Outcome
    reason: str
    step: int
    tokens: int
    recomputed_steps: int
    """Steps done that an attempt before it had done already."""
    seconds: dict[Phase, float]


Entry = Annotated[AttemptStart | AttemptProgress | AttemptEnd, Field(discriminator="kind")]
_ENTRY: TypeAdapter[AttemptStart | AttemptProgress | AttemptEnd] = TypeAdapter(Entry)


@dataclass(frozen=True)
class Attempt:
    """One attempt, read back. `last` is how it ended, or how it stood when it was last heard of."""

    start: AttemptStart
    last: AttemptProgress | AttemptEnd | None

    @property
    def outcome(self) -> str:
        """How it ended; `lost` where its driver never said."""
        return self.last.outcome if isinstance(self.last, AttemptEnd) else "lost"

    @property
    def reason(self) -> str:
        """Why it ended so."""
        return self.last.reason if isinstance(self.last, AttemptEnd) else ""

    @property
    def step(self) -> int:
        """The optimiser step it had reached."""
        return self.last.step if self.last else 0

    @property
    def tokens(self) -> int:
        """Tokens trained on in this attempt."""
        return self.last.tokens if self.last else 0

    @property
    def recomputed_steps(self) -> int:
        """Steps done again."""
        return self.last.recomputed_steps if isinstance(self.last, AttemptEnd) else 0

    @property
    def seconds(self) -> dict[Phase, float]:
        """Seconds by phase."""
        return self.last.seconds if self.last else {}

    @property
    def seconds_total(self) -> float:
        """All its seconds."""
        return sum(self.seconds.values())

    @property
    def cost_usd(self) -> float:
        """Its time at the price it began with, in US dollars."""
        return self.seconds_total / 3600 * self.start.price_usd_per_hour


@dataclass(frozen=True)
class Cost:
    """What attempts cost together: dollars, hours, seconds by phase."""

    usd: float
    hours: float
    by_phase: dict[Phase, float]


def total_cost(attempts: list[Attempt]) -> Cost:
    """Add attempts up, failed ones too."""
    by_phase: dict[Phase, float] = {}
    for attempt in attempts:
        for phase, seconds in attempt.seconds.items():
            by_phase[phase] = by_phase.get(phase, 0.0) + seconds
    usd = sum(attempt.cost_usd for attempt in attempts)
    return Cost(usd=usd, hours=sum(by_phase.values()) / 3600, by_phase=by_phase)


class AttemptWriter:
    """Adds to one attempt. One process writes an attempt."""

    def __init__(self, store: Store, folder: str, attempt: int) -> None:
        self.attempt = attempt
        self._store = store
        self._folder = folder
        self._next = 1

    def progress(self, *, step: int, tokens: int, seconds: dict[Phase, float]) -> None:
        """Say how it stands."""
        self._add(AttemptProgress(at=_now(), step=step, tokens=tokens, seconds=seconds))

    def end(
        self,
        outcome: Outcome,
        *,
        reason: str,
        step: int,
        tokens: int,
        recomputed_steps: int,
        seconds: dict[Phase, float],
    ) -> None:
        """Say how it ended."""
        self._add(
            AttemptEnd(
                at=_now(),
                outcome=outcome,
                reason=reason,
                step=step,
                tokens=tokens,
                recomputed_steps=recomputed_steps,
                seconds=seconds,
            )
        )

    def _add(self, entry: AttemptProgress | AttemptEnd) -> None:
        self._store.create(f"{self._folder}/{self._next:06d}.json", entry.model_dump_json().encode())
        self._next += 1


class Ledger:
    """The attempts of one run."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._folder = f"runs/{run_id}/attempts"

    def start(self, hardware: Hardware, *, workers: int, price: Price) -> AttemptWriter:
        """Open the next attempt."""
        number = max((int(name) for name in self._store.list(self._folder)), default=0) + 1
        while True:
            folder = f"{self._folder}/{number}"
            try:
                self._store.create(f"{folder}/000000.json", self._entry(number, hardware, workers, price))
            except ConflictError:  # another driver resumed the same run in this moment
                number += 1
                continue
            return AttemptWriter(self._store, folder, number)

    @staticmethod
    def _entry(number: int, hardware: Hardware, workers: int, price: Price) -> bytes:
        start = AttemptStart(
            attempt=number,
            at=_now(),
            host=hardware.host,
            user=user_name(),
            pid=os.getpid(),
            hardware=hardware,
            workers=workers,
            price_usd_per_hour=price.usd_per_hour,
            price_source=price.source,
            price_date=price.date,
        )
        return start.model_dump_json().encode()

    def attempts(self) -> list[Attempt]:
        """All attempts, in order.

        Raises:
            StoreError: a file of the ledger is damaged.
        """
        return [self._attempt(int(name)) for name in sorted(self._store.list(self._folder), key=int)]

    def _attempt(self, number: int) -> Attempt:
        folder = f"{self._folder}/{number}"
        names = sorted(self._store.list(folder))
        start = self._read(f"{folder}/{names[0]}")
        last = self._read(f"{folder}/{names[-1]}") if len(names) > 1 else None
        if not isinstance(start, AttemptStart) or isinstance(last, AttemptStart):
            raise StoreError("An attempt does not begin with its start.", where=folder, fix="Restore it from a backup.")
        return Attempt(start, last)

    def _read(self, path: str) -> AttemptStart | AttemptProgress | AttemptEnd:
        try:
            return _ENTRY.validate_json(self._store.read(path))
        except ValidationError as error:
            raise StoreError(
                f"A file of the ledger is damaged: {error.errors()[0]['msg']}",
                where=f"{self._store.uri}/{path}",
                fix="Restore it from a backup.",
            ) from error


def _now() -> datetime:
    return datetime.now(UTC)


def user_name() -> str:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's uid without a passwd entry
        return str(os.getuid())
