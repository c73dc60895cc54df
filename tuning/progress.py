"""How the trials of a search stand: events folded into one line each, and each trial's attempt kept in the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.billing.ledger import AttemptWriter
from training.run.recorder import Recorder
from training.worker.job import HOLDOUT_LOSS, Event
from tuning.board import Ending
from tuning.space import Trial


@dataclass
class TrialState:
    """How one trial stands.

    Attributes:
        state: waiting, starting, training, measuring, or how it ended.
        steps: planned optimiser steps; 0 before training began.
        rows, of_rows: answered in its measurement.
        usd: what its attempts cost until now.
    """

    trial: Trial
    state: str = "waiting"
    reason: str = ""
    step: int = 0
    steps: int = 0
    rows: int = 0
    of_rows: int = 0
    holdout_loss: float | None = None
    usd: float = 0.0

    def apply(self, event: Event) -> None:
        """Fold one event in."""
        match event.kind:
            case "group_started":
                self.state = "starting"
            case "begun" | "resumed":
                self.state, self.step, self.steps = "training", event.step, event.steps
            case "step":
                self.step, self.steps = event.step, event.steps
            case "checkpoint":
                self.step = event.step
                self.holdout_loss = event.values.get(HOLDOUT_LOSS, self.holdout_loss)
            case "progress":
                self.state, self.rows, self.of_rows = "measuring", event.step, event.steps
            case _:
                pass


@dataclass
class RunningTrial:
    """A trial that is going on, and its attempt.

    Args:
        open_attempt: starts the attempt in the trial's ledger.
        clock: seconds that only go forward.
    """

    state: TrialState
    open_attempt: Callable[[], AttemptWriter]
    clock: Callable[[], float] = time.monotonic
    earlier_usd: float = field(init=False)
    recorder: Recorder = field(init=False)

    def __post_init__(self) -> None:
        self.earlier_usd = self.state.usd
        self.recorder = Recorder(self.open_attempt, self.clock)
        self.state.state = "starting"

    def handle(self, event: Event) -> None:
        """Take one event in."""
        self.recorder.handle(event)
        self.state.apply(event)

    def tick(self) -> None:
        """Count the dollars up to now."""
        self.state.usd = self.earlier_usd + self.recorder.usd

    def close(self, ending: Ending) -> None:
        """End the attempt."""
        self.tick()
        self.recorder.close(ending.outcome, ending.reason)
        self.state.state, self.state.reason = ending.outcome, ending.reason
