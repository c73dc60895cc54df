"""The progress of a run: its events folded into one value that a live view can draw."""

from __future__ import annotations

from dataclasses import dataclass, field

from training.worker.job import Event


@dataclass
class RunState:
    """The progress of a run.

    Attributes:
        done: stages finished, with their seconds.
        step, steps: optimiser steps done, and in total.
        rows, of_rows: rows answered in the current evaluation, and in total.
        loss: of the last step; `first_loss` of the first one seen.
        memory_bytes: peak of one worker.
        notes: lines for the user, oldest first.
    """

    stage: str = "starting"
    stage_began: float = 0.0
    began: float = 0.0
    done: list[tuple[str, float]] = field(default_factory=list)
    step: int = 0
    steps: int = 0
    rows: int = 0
    of_rows: int = 0
    loss: float | None = None
    first_loss: float | None = None
    holdout_loss: float | None = None
    memory_bytes: int = 0
    notes: list[str] = field(default_factory=list)
    _recent: list[tuple[float, float, int]] = field(default_factory=list)

    def apply(self, event: Event, now: float) -> None:
        """Take one event in. `now` is in seconds of any clock that only goes forward."""
        match event.kind:
            case "stage":
                self._next_stage(event.text, now)
            case "note" if event.text:
                self.notes.append(event.text)
            case "progress":
                self.rows, self.of_rows = event.step, event.steps
            case "group_started":
                self._recent.clear()
            case "begun" | "resumed":
                self.step, self.steps = event.step, event.steps
                self._recent.clear()
                if event.kind == "resumed":
                    self.notes.append(f"continues after step {event.step} of {event.steps}")
            case "step":
                self._step(event, now)
            case "checkpoint":
                self.holdout_loss = event.values.get("holdout_loss", self.holdout_loss)
            case _:
                pass

    def _next_stage(self, stage: str, now: float) -> None:
        if self.began:
            self.done.append((self.stage, now - self.stage_began))
        else:
            self.began = now
        self.stage, self.stage_began, self.rows, self.of_rows = stage, now, 0, 0

    def _step(self, event: Event, now: float) -> None:
        self.step, self.steps = event.step, event.steps
        self.loss = event.values["loss"]
        self.first_loss = self.loss if self.first_loss is None else self.first_loss
        self.memory_bytes = max(self.memory_bytes, int(event.values["memory_bytes"]))
        self._recent = [*self._recent[-10:], (now, event.values["tokens"], event.step)]

    @property
    def tokens_per_second(self) -> float | None:
        """Of all workers over the last ten steps, without padding; None before the second step."""
        if len(self._recent) < 2:
            return None
        (began, tokens_then, _), (ended, tokens_now, _) = self._recent[0], self._recent[-1]
        return (tokens_now - tokens_then) / (ended - began) if ended > began else None

    @property
    def seconds_left(self) -> float | None:
        """For the remaining steps, at the speed of the last ones."""
        if len(self._recent) < 2 or not self.steps:
            return None
        (began, _, step_then), (ended, _, step_now) = self._recent[0], self._recent[-1]
        return (ended - began) / max(1, step_now - step_then) * (self.steps - self.step)
