"""A pod's log as lines that are neither lost nor repeated when the stream breaks and is taken up again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass
class LogPlace:
    """How far a log was read: the last whole second, and the lines read of it.

    The API server goes on from a whole second (`sinceTime`), so the lines of the last one come again, and are known by
    their text and time.
    """

    second: int | None = None
    _read: Counter[str] = field(default_factory=Counter, repr=False)
    _again: Counter[str] = field(default_factory=Counter, repr=False)

    @property
    def since(self) -> str | None:
        """From when to ask on, as RFC 3339; None at the beginning."""
        return None if self.second is None else f"{datetime.fromtimestamp(self.second, UTC):%Y-%m-%dT%H:%M:%SZ}"

    def rewind(self) -> None:
        """The log is going to be read again from `since`."""
        self._again = Counter(self._read)

    def take(self, stamped: str) -> str | None:
        """The text of a line `TIME TEXT`; None where it was read before."""
        time, _, text = stamped.partition(" ")
        second = whole_second(time)
        if second is None:  # the API server's own words, as for a log that was rotated away
            return stamped
        if self._again[stamped] > 0:
            self._again[stamped] -= 1
            return None
        if self.second is None or second > self.second:
            self.second = second
            self._read.clear()
        if second == self.second:
            self._read[stamped] += 1
        return text


def whole_second(time: str) -> int | None:
    """The second of an RFC 3339 time, counted from 1970; None where it is no time. Kubelets write nine digits behind
    the point, and the node's own time zone."""
    try:
        return int(datetime.fromisoformat(time[:19] + _zone(time[19:])).timestamp())
    except ValueError:
        return None


def _zone(rest: str) -> str:
    return rest.lstrip(".0123456789")


def whole_lines(pieces: Iterable[bytes], *, last: bool) -> Iterator[str]:
    """Cut a stream into lines.

    Args:
        last: the log is complete: what stands behind the last line break is a line too. Otherwise it is half a line.
    """
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace").removesuffix("\r")
    if last and rest:
        yield rest.decode(errors="replace")
