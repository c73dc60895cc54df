"""The axes of a chart: which ends they have, linear or logarithmic, and where their ticks stand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LOG_FROM = 30.0
"""Largest over smallest value from which an axis is logarithmic, as for a loss that falls from 4 to 0.1."""
ROOM = 6
"""Characters that a label has room for; where one is longer, all are written as powers of ten."""
_ROUND = (1, 2, 5, 10)


@dataclass(frozen=True)
class Tick:
    """A mark on an axis.

    Attributes:
        at: where, in the units of the drawing.
        label: what stands beside it.
    """

    at: float
    label: str


@dataclass(frozen=True)
class Axis:
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
        share = (self._on_line(value) - self._on_line(self.low)) / (self._on_line(self.high) - self._on_line(self.low))
        return round(self.start + share * (self.end - self.start), 1)

    def _on_line(self, value: float) -> float:
        return math.log10(value) if self.log else value

    @property
    def ticks(self) -> tuple[Tick, ...]:
        """Its ticks, where they are drawn."""
        labels = [f"{mark:.6g}" for mark in self.marks]
        if any(len(label) > ROOM or "e" in label for label in labels):
            labels = [_short(mark) for mark in self.marks]
        return tuple(Tick(self(mark), label) for mark, label in zip(self.marks, labels, strict=True))


def _short(value: float) -> str:
    """`1.5e-4`."""
    digits, _, power = f"{value:.2e}".partition("e")
    return f"{float(digits):g}e{int(power)}" if value else "0"


def wants_log(values: Sequence[float]) -> bool:
    """Whether the values are better read on a logarithmic axis: all positive, and far apart."""
    return bool(values) and min(values) > 0 and max(values) / min(values) >= LOG_FROM


def axis(
    values: Sequence[float], start: float, end: float, *, log: bool = False, whole: bool = False, most: int = 6
) -> Axis:
    """An axis that holds all values and ends at round ones.

    Args:
        values: finite, at least one; positive where `log`.
        whole: its ticks are whole numbers, as steps are.
        most: about how many ticks it has.
    """
    low, high = min(values), max(values)
    if low == high:  # one value, or all alike: give it room on both sides
        room = abs(low) / 2 or 1.0
        low, high = (low / 2, high * 2) if log else (low - room, high + room)
    marks = _log_marks(low, high, most) if log else _marks(low, high, most, whole)
    return Axis(marks[0], marks[-1], start, end, log, marks)


def _marks(low: float, high: float, most: int, whole: bool) -> tuple[float, ...]:
    """Multiples of 1, 2 or 5 times a power of ten, from below `low` to above `high`."""
    raw = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in _ROUND if power * factor >= raw * (1 - 1e-9))
    if whole:
        step = max(1.0, step)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(round(place * step, 12) for place in range(first, max(last, first + 1) + 1))


def _log_marks(low: float, high: float, most: int) -> tuple[float, ...]:
    """1, 2 and 5 times the powers of ten around the values; only the powers where that were too many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    powers = [10.0**place for place in range(first, last + 1)]
    fine = [power * factor for power in powers for factor in _ROUND[:3]]
    below = max((mark for mark in fine if mark <= low), default=fine[0])
    above = min((mark for mark in fine if mark >= high), default=fine[-1])
    inside = [mark for mark in fine if below <= mark <= above]
    if len(inside) <= 2 * most:
        return tuple(inside)
    return tuple(powers[:: math.ceil(len(powers) / most)]) if len(powers) > most else tuple(powers)
