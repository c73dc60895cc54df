"""Charts as geometry: numbers in, the paths and positions of an inline SVG out. The template draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from guitarfish.reporting.scales import Axis, Tick, axis, wants_log

Point = tuple[float, float]
LEFT, RIGHT, TOP, BOTTOM = 56, 438, 14, 214
"""The edges of a line chart's plot, in a drawing of 460 by 250 units, which the template frames."""
BARS_LEFT, BARS_RIGHT = 84, 388
"""The edges of an interval chart's plot: names stand left of it, numbers right of it."""
MOST_POINTS = 600
"""Points of a line that are drawn; a screen shows no more."""


@dataclass(frozen=True)
class Series:
    """A line to be drawn.

    Attributes:
        label: what it is.
        kind: how it looks; a class of the style sheet.
        points: (x, y); those that are not finite are left out.
        dotted: whether its points are marked.
    """

    label: str
    kind: str
    points: Sequence[Point]
    dotted: bool = False


@dataclass(frozen=True)
class Line:
    """A line as it is drawn."""

    label: str
    kind: str
    path: str
    dots: tuple[Point, ...]


@dataclass(frozen=True)
class LineChart:
    """Values by step.

    Attributes:
        title: its heading.
        description: the same in words, for those who do not see it.
        mark: a vertical line with its label.
    """

    title: str
    description: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    mark: Tick | None


def line_chart(
    title: str, description: str, series: Sequence[Series], mark: tuple[float, str] | None = None
) -> LineChart | None:
    """A chart of lines over steps; None where no line has a point that is finite.

    Args:
        mark: a step, and what is written there.
    """
    kept = [(one, points) for one in series if (points := finite(one.points))]
    if not kept:
        return None
    steps = [x for _, points in kept for x, _ in points]
    values = [y for _, points in kept for _, y in points]
    x = axis(steps, LEFT, RIGHT, whole=True)
    y = axis(values, BOTTOM, TOP, log=wants_log(values))
    lines = tuple(_line(one, [(x(a), y(b)) for a, b in thin(points, MOST_POINTS)]) for one, points in kept)
    return LineChart(title, description, x, y, lines, Tick(x(mark[0]), mark[1]) if mark else None)


def _line(series: Series, drawn: list[Point]) -> Line:
    return Line(series.label, series.kind, path(drawn), tuple(drawn) if series.dotted or len(drawn) == 1 else ())


def path(points: Sequence[Point]) -> str:
    """The `d` of an SVG path through the points."""
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points) if points else ""


def finite(points: Sequence[Point]) -> list[Point]:
    """The points without those that cannot be drawn."""
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


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
    half, sums = window // 2, [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    found = []
    for place, (x, _) in enumerate(points):
        begin, end = max(0, place - half), min(len(points), place + half + 1)
        found.append((x, (sums[end] - sums[begin]) / (end - begin)))
    return found


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval, to be drawn.

    Attributes:
        label: whose it is.
        kind: how it looks: base, few-shot or tuned.
    """

    label: str
    kind: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Whisker:
    """An estimate as it is drawn."""

    label: str
    kind: str
    text: str
    y: float
    at: float
    low: float
    high: float


@dataclass(frozen=True)
class Group:
    """Estimates of one metric, below its name."""

    heading: str
    y: float
    whiskers: tuple[Whisker, ...]


@dataclass(frozen=True)
class IntervalChart:
    """Means with whiskers, metric by metric, on one axis."""

    title: str
    description: str
    height: float
    bottom: float
    x: Axis
    groups: tuple[Group, ...]


def interval_chart(
    title: str,
    description: str,
    groups: Sequence[tuple[str, Sequence[Estimate]]],
    domain: tuple[float, float] | None = None,
) -> IntervalChart | None:
    """A chart of intervals; None where there is nothing to draw.

    Args:
        groups: metric and its estimates.
        domain: values that the axis holds besides.
    """
    ends = [end for _, estimates in groups for one in estimates for end in (one.low, one.high, one.mean)]
    if not ends:
        return None
    x = axis([*ends, *(domain or ())], BARS_LEFT, BARS_RIGHT, most=5)
    drawn, y = [], 4.0
    for heading, estimates in groups:
        top = y + 14
        whiskers = tuple(_whisker(one, x, top + 18 * (place + 1)) for place, one in enumerate(estimates))
        drawn.append(Group(heading, top, whiskers))
        y = top + 18 * len(estimates) + 12
    return IntervalChart(title, description, y + 26, y, x, tuple(drawn))


def _whisker(one: Estimate, x: Axis, y: float) -> Whisker:
    return Whisker(one.label, one.kind, f"{one.mean:.3f}", y, x(one.mean), x(one.low), x(one.high))
