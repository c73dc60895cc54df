"""Charts as numbers: scales with round ticks, and the points of a line that are drawn. charts.html.j2 draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

Point = tuple[float, float]
WIDTH = 400
"""Of every drawing, in its own units; the edges below are in them too. Letters are 13 high and up to 8 wide."""
LEFT, RIGHT, TOP, BOTTOM = 54, 378, 12, 190
"""The edges of a line chart's plot."""
BARS_LEFT, BARS_RIGHT, BARS_TOP = 92, 340, 4
"""The edges of an interval chart's plot: names to the left of it, numbers to the right."""
HEADING, ROW = 28, 19
"""Heights of an interval chart's headings and rows."""
MOST_POINTS = 600
"""Points of a line that are drawn; a screen shows no more."""
LOG_FROM = 30.0
"""Largest over smallest value from which an axis is logarithmic, as for a loss that falls from 4 to 0.1."""
LABEL_ROOM = 6
"""Characters that a tick's label has room for; where one is longer, all are written as powers of ten."""


@dataclass(frozen=True)
class Scale:
    """Values onto a line of the drawing.

    Attributes:
        low, high: values at its ends.
        start, end: where the ends are drawn.
        log: whether equal ratios have equal lengths.
        marks: values that have a tick.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool
    marks: tuple[float, ...]

    def __call__(self, value: float) -> float:
        """Where a value is drawn; rounded to a tenth, which is finer than a screen shows."""
        low, high, at = (math.log10(one) if self.log else one for one in (self.low, self.high, value))
        return round(self.start + (at - low) / (high - low) * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Where its ticks are drawn, and their labels."""
        labels = [f"{mark:.6g}" for mark in self.marks]
        if any(len(label) > LABEL_ROOM or "e" in label for label in labels):
            labels = [_in_powers(mark) for mark in self.marks]
        return [(self(mark), label) for mark, label in zip(self.marks, labels, strict=True)]


def _in_powers(value: float) -> str:
    """`1.5e-4`."""
    digits, _, power = f"{value:.2e}".partition("e")
    return f"{float(digits):g}e{int(power)}" if value else "0"


def scale(
    values: Sequence[float], start: float, end: float, *, log: bool = False, whole: bool = False, most: int = 6
) -> Scale:
    """A scale that holds all values and ends at round ones.

    Args:
        values: finite, at least one; positive where `log`.
        whole: its ticks are whole numbers, as steps are.
        most: about how many ticks it has.
    """
    low, high = min(values), max(values)
    if low == high:  # one value, or all alike: room on both sides
        room = abs(low) / 2 or 1.0
        low, high = (low / 2, high * 2) if log else (low - room, high + room)
    marks = _log_marks(low, high, most) if log else _marks(low, high, most, whole)
    return Scale(marks[0], marks[-1], start, end, log, marks)


def _marks(low: float, high: float, most: int, whole: bool) -> tuple[float, ...]:
    """Multiples of 1, 2 or 5 times a power of ten, from below `low` to above `high`."""
    raw = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    step = max(1.0, step) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(round(place * step, 12) for place in range(first, max(last, first + 1) + 1))


def _log_marks(low: float, high: float, most: int) -> tuple[float, ...]:
    """1, 2 and 5 times the powers of ten around the values; only some of the powers where that were too many."""
    powers = [10.0**place for place in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    fine = [power * factor for power in powers for factor in (1, 2, 5)]
    below = max((mark for mark in fine if mark <= low), default=fine[0])
    above = min((mark for mark in fine if mark >= high), default=fine[-1])
    inside = [mark for mark in fine if below <= mark <= above]
    return tuple(inside if len(inside) <= 2 * most else powers[:: math.ceil(len(powers) / most)])


@dataclass(frozen=True)
class Series:
    """A line.

    Attributes:
        label: what it is.
        kind: how it looks; a class of the style sheet.
        points: (x, y); line_chart leaves out those that are not finite.
        dotted: whether its points are marked.
    """

    label: str
    kind: str
    points: Sequence[Point]
    dotted: bool = False


@dataclass(frozen=True)
class LineChart:
    """Values by step.

    Attributes:
        description: the chart in words, for those who do not see it.
        mark: a step, and what is written there.
    """

    title: str
    description: str
    x: Scale
    y: Scale
    lines: Sequence[Series]
    mark: tuple[float, str] | None


def line_chart(
    title: str, description: str, series: Sequence[Series], mark: tuple[float, str] | None = None
) -> LineChart | None:
    """A chart of lines over steps; None where no line has a point that is finite."""
    lines = []
    for one in series:
        points = [(x, y) for x, y in one.points if math.isfinite(x) and math.isfinite(y)]
        if points:
            lines.append(Series(one.label, one.kind, thin(points, MOST_POINTS), one.dotted or len(points) == 1))
    if not lines:
        return None
    steps = [x for line in lines for x, _ in line.points]
    values = [y for line in lines for _, y in line.points]
    log = min(values) > 0 and max(values) / min(values) >= LOG_FROM
    x, y = scale(steps, LEFT, RIGHT, whole=True), scale(values, BOTTOM, TOP, log=log)
    return LineChart(title, description, x, y, lines, mark)


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """At most about `most` points with the same outline: of each stretch its lowest, its highest, and both ends."""
    if len(points) <= most:
        return list(points)
    stretch = math.ceil(2 * len(points) / most)
    kept = {0, len(points) - 1}
    for begin in range(0, len(points), stretch):
        places = range(begin, min(begin + stretch, len(points)))
        kept |= {min(places, key=lambda place: points[place][1]), max(places, key=lambda place: points[place][1])}
    return [points[place] for place in sorted(kept)]


def running_mean(points: Sequence[Point], window: int) -> list[Point]:
    """Each point's y as the mean over up to `window` points around it."""
    half, sums = window // 2, [0.0, *accumulate(y for _, y in points)]
    found = []
    for place, (x, _) in enumerate(points):
        begin, end = max(0, place - half), min(len(points), place + half + 1)
        found.append((x, (sums[end] - sums[begin]) / (end - begin)))
    return found


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        kind: how it looks: base, few-shot or tuned.
    """

    label: str
    kind: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class IntervalChart:
    """Means with whiskers on one axis, below a heading for each metric."""

    title: str
    description: str
    x: Scale
    groups: Sequence[tuple[str, Sequence[Estimate]]]

    @property
    def bottom(self) -> float:
        return BARS_TOP + sum(HEADING + ROW * len(estimates) for _, estimates in self.groups)


def interval_chart(
    title: str, groups: Sequence[tuple[str, Sequence[Estimate]]], domain: tuple[float, ...] = ()
) -> IntervalChart | None:
    """A chart of intervals; None where there is nothing to draw.

    Args:
        groups: metric and its estimates.
        domain: values that the axis holds besides.
    """
    ends = [end for _, estimates in groups for one in estimates for end in (one.low, one.high, one.mean)]
    if not ends:
        return None
    description = " ".join(
        f"{heading}: {', '.join(f'{one.label} {one.mean:.3f} ({one.low:.3f} to {one.high:.3f})' for one in estimates)}."
        for heading, estimates in groups
    )
    return IntervalChart(title, description, scale([*ends, *domain], BARS_LEFT, BARS_RIGHT, most=5), groups)
