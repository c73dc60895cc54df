"""Rows shared out to several workers: worker i of n takes rows[i::n]; the parts are put back in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Row = TypeVar("Row")


def shard(rows: Sequence[Row], rank: int, world_size: int) -> list[Row]:
    return list(rows[rank::world_size])


def interleave(parts: Sequence[Sequence[Row]]) -> list[Row]:
    """The rows in their first order, from all workers' parts by rank. Raises ValueError if their lengths do not fit."""
    lengths = [len(part) for part in parts]
    total = sum(lengths)
    if lengths != [len(range(rank, total, len(parts))) for rank in range(len(parts))]:
        raise ValueError(f"Parts of {lengths} rows are not shards of one list.")
    return [parts[place % len(parts)][place // len(parts)] for place in range(total)]
