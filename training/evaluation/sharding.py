"""Rows that several workers share: worker i of n takes rows[i::n], and the parts are put back in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Row = TypeVar("Row")


def shard(rows: Sequence[Row], rank: int, world_size: int) -> list[Row]:
    """The rows of one worker."""
    return list(rows[rank::world_size])


def interleave(parts: Sequence[Sequence[Row]]) -> list[Row]:
    """The rows in their first order, from the parts of all workers by rank.

    Raises:
        ValueError: the parts cannot come from `shard`: their lengths do not fit.
    """
    total = sum(map(len, parts))
    if [len(part) for part in parts] != [len(range(rank, total, len(parts))) for rank in range(len(parts))]:
        raise ValueError(f"parts of {[len(part) for part in parts]} rows are not shards of one list")
    return [parts[place % len(parts)][place // len(parts)] for place in range(total)]
