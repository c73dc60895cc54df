"""Writes the ledger while a run goes on: seconds by phase, tokens, and one attempt for each group of workers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from cluster.billing.ledger import AttemptWriter, Outcome, Phase
from runspec.errors import StoreError
from training.worker.job import Event

log = logging.getLogger(__name__)
Clock = Callable[[], float]
PROGRESS_SECONDS = 20.0
"""How often progress is recorded between checkpoints: the most that is unaccounted for after a killed driver."""


class Recorder:
    """Attributes the time between events to phases, and opens a new attempt when a lost group of workers is replaced.

    Args:
        open_attempt: starts the next attempt in the ledger.
        clock: seconds that only go forward.
    """

    def __init__(self, open_attempt: Callable[[], AttemptWriter], clock: Clock) -> None:
        self._open_attempt = open_attempt
        self._clock = clock
        self._lock = threading.Lock()
        self._highest_step = 0
        self.kept_step: int | None = None
        """The step of the last checkpoint; None before the first."""
        self._ended_usd = 0.0
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self._attempt = self._open_attempt()
        self._last = self._written = self._clock()
        self._seconds: dict[Phase, float] = {}
        self._group_seen = False
        self._step = self._tokens = self._tokens_before = self._recomputed = 0

    @property
    def usd(self) -> float:
        """What the attempts of this recorder have cost so far, lost ones too."""
        with self._lock:
            since = 0.0 if self._closed else self._clock() - self._last
            return self._ended_usd + self._usd_of(sum(self._seconds.values()) + since)

    def handle(self, event: Event) -> None:
        with self._lock:
            if event.kind == "group_started" and self._group_seen:
                self._spend("idle")
                self._end("worker_lost", "a worker was lost; Ray Train started the group again")
                self._begin()
            elif event.kind == "step":
                again = event.step <= self._highest_step
                self._spend("recomputed" if again else "training")
                self._recomputed += again
                self._highest_step = max(self._highest_step, event.step)
                self._step, self._tokens = event.step, int(event.values["tokens"])
            elif event.phase:
                self._spend(event.phase)
            self._group_seen = self._group_seen or event.kind == "group_started"
            if event.kind == "resumed":
                self._step = event.step
                self._tokens = self._tokens_before = int(event.values["tokens"])
            if event.kind in ("checkpoint", "resumed"):
                self.kept_step = event.step
            if event.kind == "checkpoint" or self._clock() - self._written > PROGRESS_SECONDS:
                self._write_progress()

    def _spend(self, phase: Phase) -> None:
        now = self._clock()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._last
        self._last = now

    def _write_progress(self) -> None:
        self._written = self._clock()
        try:
            self._attempt.progress(
                step=self._step, tokens=self._tokens - self._tokens_before, seconds=dict(self._seconds)
            )
        except StoreError as error:  # must not end a run: the next record has it all
            log.warning("the ledger could not be written: %s", error)

    def _end(self, outcome: Outcome, reason: str) -> None:
        self._attempt.end(
            outcome,
            reason=reason,
            step=self._step,
            tokens=self._tokens - self._tokens_before,
            recomputed_steps=self._recomputed,
            seconds=dict(self._seconds),
        )
        self._ended_usd += self._usd_of(sum(self._seconds.values()))
        self._seconds = {}

    def _usd_of(self, seconds: float) -> float:
        return seconds / 3600 * self._attempt.start.price_usd_per_hour

    def close(self, outcome: Outcome, reason: str = "") -> None:
        with self._lock:
            self._spend("idle")
            self._closed = True
            self._end(outcome, reason)
