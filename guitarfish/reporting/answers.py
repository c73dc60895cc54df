"""Which answers a report shows: held-out rows that got better, those that got worse, those that are still wrong.

Chosen by the gate's metric alone and in the order of the hold-out, so that nobody picks the flattering ones.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guitarfish.reporting.gather import ReportData

if TYPE_CHECKING:
    from training.data.example import Example
    from training.evaluation.results import Measurement

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
        rest: what comes to light on a click.
        left_out: characters that the report does not hold.
    """

    shown: str
    rest: str = ""
    left_out: int = 0


@dataclass(frozen=True)
class Change:
    """A metric of one row that is not what it was."""

    metric: str
    before: float
    after: float
    better: bool


@dataclass(frozen=True)
class Answered:
    """One held-out row.

    Attributes:
        prompt: role and text of each message; None where the store does not have the row.
        asked: whether answers were asked for at all; a run that looks at losses only asks for none.
        few_shot: of the untuned model with examples in its prompt; None where it stands on one of the two sides.
        notes: what else to know, such as an answer that was cut short.
    """

    origin: str
    prompt: tuple[tuple[str, Text], ...] | None
    reference: Text
    asked: bool
    before: Text
    after: Text
    few_shot: Text | None
    changes: tuple[Change, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class AnswerGroup:
    """Rows that share a fate. `total` counts those that are not shown too."""

    title: str
    total: int
    rows: tuple[Answered, ...]


@dataclass(frozen=True)
class Answers:
    """The rows of a report.

    Attributes:
        before, after: names of the two sides.
        n: rows measured.
        still_right: rows that were right and are; none is shown.
    """

    metric: str
    before: str
    after: str
    n: int
    groups: tuple[AnswerGroup, ...]
    still_right: int


@dataclass(frozen=True)
class _Pair:
    left: Measurement
    right: Measurement
    few_shot: Measurement | None
    rows: dict[str, Example]
    metric: str
    names: tuple[str, str]

    def change(self, place: int, metric: str) -> float:
        """How much better the right side is in one row; positive is better."""
        from training.evaluation.scores import lower_is_better

        moved = self.right.metrics[metric][place] - self.left.metrics[metric][place]
        return -moved if lower_is_better(metric) else moved

    def is_right(self, place: int) -> bool:
        from training.evaluation.scores import lower_is_better

        value = self.right.metrics[self.metric][place]
        return value <= 0 if lower_is_better(self.metric) else value >= 1


def answers(data: ReportData) -> Answers | None:
    """The rows to show: tuned against base, or where nothing is trained few-shot against base.

    Returns:
        None where there are no two sides to compare.
    """
    before, metric = data.before, data.spec.gate.metric
    if before is None:
        return None
    if data.after is not None:
        right, few_shot, names = data.after.tuned, before.few_shot, (data.spec.lora.start_from or "base", "tuned")
    elif before.few_shot is not None and data.kind not in ("train", "trial"):
        right, few_shot, names = before.few_shot, None, ("base", "base with examples in its prompt")
    else:
        return None
    if right.origins != before.base.origins or metric not in right.metrics:
        return None
    return _grouped(_Pair(before.base, right, few_shot, data.rows, metric, names))


def _grouped(pair: _Pair) -> Answers:
    places = range(len(pair.left.origins))
    moved = {place: pair.change(place, pair.metric) for place in places}
    better = sorted((place for place in places if moved[place] > 0), key=lambda place: -moved[place])
    worse = sorted((place for place in places if moved[place] < 0), key=lambda place: moved[place])
    same = [place for place in places if not moved[place]]
    wrong = [place for place in same if not pair.is_right(place)]
    groups = (
        _group("Better", better, pair),
        _group("Worse", worse, pair),
        _group("Not right, and no better", wrong, pair),
    )
    return Answers(pair.metric, *pair.names, len(places), groups, len(same) - len(wrong))


def _group(title: str, places: Sequence[int], pair: _Pair) -> AnswerGroup:
    return AnswerGroup(title, len(places), tuple(_answered(place, pair) for place in places[:SHOWN]))


def _answered(place: int, pair: _Pair) -> Answered:
    origin = pair.left.origins[place]
    example, few_shot = pair.rows.get(origin), pair.few_shot
    notes = [
        f"The answer of {name} was cut short at evaluation.max_new_tokens."
        for name, side in zip(pair.names, (pair.left, pair.right), strict=True)
        if side.cut_short[place]
    ]
    return Answered(
        origin=origin,
        prompt=prompt_of(example) if example is not None else None,
        reference=cut(pair.left.references[place]),
        asked=any(pair.left.answers) or any(pair.right.answers),
        before=cut(pair.left.answers[place]),
        after=cut(pair.right.answers[place]),
        few_shot=cut(few_shot.answers[place]) if few_shot and few_shot.origins == pair.left.origins else None,
        changes=tuple(_changes(place, pair)),
        notes=tuple(notes),
    )


def _changes(place: int, pair: _Pair) -> list[Change]:
    found = []
    for metric, values in pair.left.metrics.items():
        if metric in pair.right.metrics and (moved := pair.change(place, metric)):
            found.append(Change(metric, values[place], pair.right.metrics[metric][place], moved > 0))
    return found


def prompt_of(example: Example) -> tuple[tuple[str, Text], ...]:
    """Role and text of each message that the model was given; nothing for plain text."""
    return tuple((str(message.get("role", "?")), cut(_content(message))) for message in example.prompt)


def _content(message: dict[str, Any]) -> str:
    content = message.get("content")
    parts = [content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)] if content else []
    if message.get("tool_calls"):
        parts.append(json.dumps(message["tool_calls"], ensure_ascii=False))
    return "\n".join(parts)


def cut(text: str) -> Text:
    """A text in three parts: shown, held back, and left out."""
    if len(text) <= SHORT + SHORT // 4:  # a fold that hides a few words is a nuisance
        return Text(text)
    return Text(text[:SHORT], text[SHORT:LONG], max(0, len(text) - LONG))
