"""Which answers a report shows: held-out rows that got better, those that got worse, those that are still wrong.

Chosen by the gate's metric alone and in the order of the hold-out, so that flattering rows are not picked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from guitarfish.report.gather import ReportData
from training.data.example import Example
from training.evaluation.results import Measurement
from training.evaluation.scores import lower_is_better

SHOWN = 8
"""Rows of each group."""
SHORT = 400
"""Characters of a text that are shown at once."""
LONG = 20_000
"""Characters of a text that the report holds; the store has the rest."""


@dataclass(frozen=True)
class Text:
    """A text of a model or of a data set.

    Attributes:
        shown: its beginning.
        rest: shown on a click.
        left_out: characters that the report does not hold.
    """

    shown: str
    rest: str = ""
    left_out: int = 0


@dataclass(frozen=True)
class Change:
    """A metric of one row that changed."""

    metric: str
    before: float
    after: float
    better: bool


@dataclass(frozen=True)
class Answered:
    """One held-out row.

    Attributes:
        prompt: role and text of each message; None where the store does not have the row.
        few_shot: of the untuned model with examples in its prompt; None where it is one of the two sides.
        cut_short: the sides whose answer ran into the length limit.
    """

    origin: str
    prompt: tuple[tuple[str, Text], ...] | None
    reference: Text
    before: Text
    after: Text
    few_shot: Text | None
    changes: tuple[Change, ...]
    cut_short: tuple[str, ...]


@dataclass(frozen=True)
class AnswerGroup:
    """Rows that changed alike. `total` counts those that are not shown too."""

    title: str
    total: int
    rows: tuple[Answered, ...]


@dataclass(frozen=True)
class Answers:
    """The rows of a report.

    Attributes:
        names: of the two sides.
        n: rows measured.
        asked: False where the run looks at losses only, so that nothing was answered.
        still_right: rows that were right and are; none is shown.
    """

    metric: str
    names: tuple[str, str]
    n: int
    asked: bool
    groups: tuple[AnswerGroup, ...]
    still_right: int


def answers(data: ReportData) -> Answers | None:
    """The rows to show: tuned beside base, or where nothing is trained few-shot beside base; None without two sides."""
    before, metric, few_shot = data.before, data.spec.gate.metric, None
    if before is None:
        return None
    left = before.base
    if data.after is not None:
        right, names, few_shot = data.after.tuned, (data.spec.lora.start_from or "base", "tuned"), before.few_shot
    elif before.few_shot is not None and data.kind not in ("train", "trial"):
        right, names = before.few_shot, ("base", "base with examples in its prompt")
    else:
        return None
    if right.origins != left.origins or metric not in right.metrics:
        return None
    if few_shot is not None and few_shot.origins != left.origins:
        few_shot = None

    moved = [_better_by(metric, left, right, place) for place in range(len(left.origins))]
    better = sorted((place for place, by in enumerate(moved) if by > 0), key=lambda place: -moved[place])
    worse = sorted((place for place, by in enumerate(moved) if by < 0), key=lambda place: moved[place])
    same = [place for place, by in enumerate(moved) if by == 0]
    wrong = [place for place in same if not _is_right(metric, right.metrics[metric][place])]

    def group(title: str, places: Sequence[int]) -> AnswerGroup:
        rows = (_answered(place, left, right, few_shot, names, data.rows) for place in places[:SHOWN])
        return AnswerGroup(title, len(places), tuple(rows))

    groups = (group("Better", better), group("Worse", worse), group("Not right, and no better", wrong))
    asked = any(left.answers) or any(right.answers)
    return Answers(metric, names, len(moved), asked, groups, len(same) - len(wrong))


def _better_by(metric: str, left: Measurement, right: Measurement, place: int) -> float:
    by = right.metrics[metric][place] - left.metrics[metric][place]
    return -by if lower_is_better(metric) else by


def _is_right(metric: str, value: float) -> bool:
    return value <= 0 if lower_is_better(metric) else value >= 1


def _answered(
    place: int,
    left: Measurement,
    right: Measurement,
    few_shot: Measurement | None,
    names: tuple[str, str],
    rows: dict[str, Example],
) -> Answered:
    example = rows.get(left.origins[place])
    both = [metric for metric in left.metrics if metric in right.metrics]
    moved = {metric: by for metric in both if (by := _better_by(metric, left, right, place))}
    return Answered(
        origin=left.origins[place],
        prompt=tuple(_message(message) for message in example.prompt) if example is not None else None,
        reference=cut(left.references[place]),
        before=cut(left.answers[place]),
        after=cut(right.answers[place]),
        few_shot=cut(few_shot.answers[place]) if few_shot else None,
        changes=tuple(
            Change(metric, left.metrics[metric][place], right.metrics[metric][place], by > 0)
            for metric, by in moved.items()
        ),
        cut_short=tuple(name for name, side in zip(names, (left, right), strict=True) if side.cut_short[place]),
    )


def _message(message: dict[str, Any]) -> tuple[str, Text]:
    """Role and text, tool calls as JSON below it."""
    parts = [message.get("content"), message.get("tool_calls")]
    texts = [part if isinstance(part, str) else json.dumps(part, ensure_ascii=False) for part in parts if part]
    return str(message.get("role", "?")), cut("\n".join(texts))


def cut(text: str) -> Text:
    """A text in three parts: shown, folded, and left out."""
    if len(text) <= SHORT + SHORT // 4:  # a fold that hides a few words is a nuisance
        return Text(text)
    return Text(text[:SHORT], text[SHORT:LONG], max(0, len(text) - LONG))
