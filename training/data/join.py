"""Held-out rows and the training rows that are like them: an exact search, which misses no pair."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from training.data.shingles import Shape, jaccard, shingles

ROUNDING = 1e-9
"""So that 0.8 of 10 shingles are 8, not 9."""
MORE = 10
"""A row of n shingles has n / this many looked up beyond what is needed, so that more of the rest can be ruled out."""


class HeldOut:
    """Held-out rows, to be found by what is like them.

    Two rows of similarity t share at least t*n of the n shingles of either. So if shingles are put in one order, the
    first n - t*n + 1 of each row have one in common: only those are looked up, the rarest first (the prefix filter of
    Chaudhuri, Ganti and Kaushik 2006). How many they have in common limits what the rows can share in all (as in
    Xiao, Wang, Lin and Yu 2008); what still can be alike is compared whole. Memory goes with the held-out rows;
    training rows pass by one at a time.

    Args:
        texts: of the held-out rows, normalised.
        shape: of the shingles.
        floor: similarity from which on every pair is found.
    """

    def __init__(self, texts: Sequence[str], shape: Shape, floor: float) -> None:
        self._shape = shape
        self._floor = floor
        self._sets = [shingles(text, shape) for text in texts]
        common = Counter(shingle for one in self._sets for shingle in one)
        ordered = sorted(common, key=lambda shingle: (common[shingle], shingle))
        self._rank = {shingle: rank for rank, shingle in enumerate(ordered)}
        self._index: dict[int, list[int]] = defaultdict(list)
        self._rest: list[int] = []
        for place, one in enumerate(self._sets):
            looked_up = _looked_up(len(one), floor)
            self._rest.append(max(0, len(one) - looked_up))
            for rank in sorted(self._rank[shingle] for shingle in one)[:looked_up]:
                self._index[rank].append(place)
        self._gone: set[int] = set()
        self._purged = 0

    def forget(self, place: int) -> None:
        """Find this row no more. Where everything is alike, this keeps the search from comparing all with all."""
        self._gone.add(place)
        if 2 * (len(self._gone) - self._purged) > len(self._sets) - self._purged:
            self._purged = len(self._gone)
            for rank, places in self._index.items():
                self._index[rank] = [other for other in places if other not in self._gone]

    def like(self, text: str, at_least: float | None = None) -> list[tuple[int, float]]:
        """Places of held-out rows that are like a text, each with the exact similarity.

        Args:
            text: normalised.
            at_least: similarity from which on rows are wanted; not below the floor, which it is where none is given.
        """
        wanted = self._floor if at_least is None else at_least
        tokens = shingles(text, self._shape)
        size = len(tokens)
        ranks = [self._rank[shingle] for shingle in tokens & self._rank.keys()]
        if len(ranks) < _shared(size, wanted):
            return []
        looked_up = _looked_up(size, wanted)
        hits: Counter[int] = Counter()
        # Shingles that no held-out row has are rarer than any other: they come first.
        for rank in sorted(ranks)[: max(0, looked_up - (size - len(ranks)))]:
            hits.update(self._index.get(rank, ()))
        rest = max(0, size - looked_up)
        found = []
        for place, count in hits.items():
            both = size + len(self._sets[place])
            # Of two rows, the one whose last shingle looked up is rarer has every other shared one among its rest.
            if place not in self._gone and count + max(rest, self._rest[place]) >= _overlap(both, wanted):
                similarity = jaccard(tokens, self._sets[place])
                if similarity >= wanted:
                    found.append((place, similarity))
        return sorted(found)


def _shared(size: int, similarity: float) -> int:
    """Shingles that a row of so many shares at least with any that is like it."""
    return math.ceil(similarity * size - ROUNDING)


def _overlap(both: int, similarity: float) -> float:
    """Shingles that two rows share which have so many together: t/(1+t) of them."""
    return similarity / (1 + similarity) * both - ROUNDING


def _looked_up(size: int, similarity: float) -> int:
    """How many of a row's shingles are looked up: one of them at least is shared, and some more to count."""
    return size - _shared(size, similarity) + 1 + size // MORE
