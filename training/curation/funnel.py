"""The funnel: what happened to every row between reading and training, as a statement whose lines add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from runspec.strict import Strict
from training.data.example import Example


@dataclass(frozen=True)
class Dropped:
    """A row that is not trained on, and is not held out either.

    Attributes:
        origin: file, line and row.
        stage: the line of the funnel that it left at.
        reason: what was found, and the limit.
    """

    origin: str
    stage: str
    reason: str


class Step(Strict):
    """One line of the funnel."""

    stage: str
    """What was done."""
    change: int
    """Rows that came (positive) or went (negative)."""
    left: int
    """Rows left after it."""
    example: str = ""
    """One of its reasons, quoted."""


@dataclass
class Funnel:
    """What happened to the rows. The changes add up to the training rows.

    Attributes:
        steps: in the order they were done.
        dropped: every row that a step dropped, with its reason.
    """

    steps: list[Step] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Rows left after the last step."""
        return self.steps[-1].left if self.steps else 0

    def count(self, stage: str, change: int, example: str = "") -> None:
        """Rows that came or went."""
        self.steps.append(Step(stage=stage, change=change, left=self.left + change, example=example))

    def drop(self, stage: str, rows: Sequence[tuple[Example, str]]) -> None:
        """Rows that went, each with its reason."""
        gone = [Dropped(example.origin, stage, reason) for example, reason in rows]
        self.dropped += gone
        self.count(stage, -len(gone), gone[0].reason if gone else "")

    def rows(self, stage: str) -> int:
        """Rows that came or went in all steps of that name, without their sign."""
        return sum(abs(step.change) for step in self.steps if step.stage == stage)

    def in_words(self) -> str:
        """All steps that changed something, on one line."""
        parts = [f"{step.change:+,} {step.stage}" for step in self.steps[1:] if step.change]
        first = f"{self.steps[0].change:,} {self.steps[0].stage}" if self.steps else "0 read"
        return f"{', '.join([first, *parts])} = {self.left:,} to train on"
