"""The progress of a search's trials: events folded into one line each."""

from __future__ import annotations

from dataclasses import dataclass

from training.worker.job import HOLDOUT_LOSS, Event
from tuning.space import Trial


@dataclass
class TrialState:
    """The progress of one trial.

    Attributes:
        state: waiting, starting, training, measuring, or how it ended.
        steps: planned optimiser steps; 0 before training began.
        rows, of_rows: rows answered in its measurement, and in total.
        usd: what its attempts have cost so far.
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
