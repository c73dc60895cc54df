"""The hold-out split: by a hash of the group or of the row, so it is the same on every machine and in every order."""

from __future__ import annotations

import hashlib

from runspec.errors import DataError
from training.data.example import Example


def split(examples: list[Example], fraction: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Training rows and held-out rows. Rows of one group, and rows of equal content, fall on one side.

    The groups with the smallest hashes are held out, so that the share is `fraction` even of few groups.

    Raises:
        DataError: there are fewer than two groups, so one side would be empty.
    """
    groups = sorted({_group(example) for example in examples}, key=lambda group: _hash(group, seed))
    if len(groups) < 2:
        raise DataError(
            f"The data has {len(groups)} group of rows, so nothing can be held out.",
            where="data.holdout",
            fix="Add rows, choose another group_key, or give a hold-out of its own: {kind: source, source: ...}.",
        )
    held = set(groups[: min(len(groups) - 1, max(1, round(len(groups) * fraction)))])
    train = [example for example in examples if _group(example) not in held]
    return train, [example for example in examples if _group(example) in held]


def _group(example: Example) -> str:
    return example.group if example.group is not None else example.digest


def _hash(group: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{group}".encode()).hexdigest()
