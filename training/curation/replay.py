"""Replay: rows of another kind, mixed in at a share so that tuning forgets less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from runspec.curation import Duplicates
from runspec.errors import DataError
from training.curation.duplicates import without_leaks
from training.curation.funnel import Funnel
from training.curation.holdout import hash64
from training.data.example import Example


def wanted(own: int, share: float) -> int:
    """Rows to mix in with `own` others so that they are `share` of all, to the nearest row."""
    return round(own * share / (1 - share))


def pick_replay(
    rows: Sequence[Example],
    train: Sequence[Example],
    holdout: Sequence[Example],
    duplicates: Duplicates,
    share: float,
    seed: int,
    funnel: Funnel,
) -> list[Example]:
    """Replay rows to train on, marked as such: chosen by seed and content, none like a held-out row, none twice.

    Args:
        rows: all of the replay source; the funnel has counted them.
        train: the other training rows, all there will be.
        share: share of all training rows that they are to make up.

    Raises:
        DataError: none is left to mix in.
    """
    own = {example.digest for example in train}
    fresh: dict[str, Example] = {}
    copies = []
    for example in rows:
        if example.digest in own or example.digest in fresh:
            copies.append((example, "same content as another training row"))
        else:
            fresh[example.digest] = replace(example, replay=True)
    funnel.drop("replay: exact copy", copies)
    usable = without_leaks(list(fresh.values()), holdout, duplicates, funnel, "replay: like a held-out row")
    if not usable:
        raise DataError(
            f"None of the {len(rows):,} replay rows can be mixed in: each is a copy, or like a held-out row.",
            where="data.curation.replay.source",
            fix="Name other rows than those of the task.",
        )
    ranked = sorted(usable, key=lambda example: hash64(f"{seed}|replay|{example.digest}"))
    drawn = ranked[: wanted(len(train), share)]
    funnel.count("replay: not drawn", len(drawn) - len(usable))
    return drawn
