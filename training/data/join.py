"""Held-out rows and the training rows that are like them: an exact search, which misses no pair."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from heapq import nsmallest

from training.data.shingles import Shape, jaccard, shingles

ROUNDING = 1e-9
"""So that 0.8 of 10 shingles are 8, not 9."""


class HeldOut:
    """Held-out rows, to be found by what is like them.

    A row of n shingles that is at least t similar to another shares at least t*n of its shingles with it, so the other
    has at least one of any n - t*n + 1 of them: only the rarest so many are indexed (the prefix filter of Chaudhuri,
    Ganti and Kaushik 2006). Sets of a and b shingles have to share t/(1+t) * (a+b), which rules out most of the rest.
    Memory goes with the held-out rows; training rows pass by one at a time.

    Args:
        texts: of the held-out rows, normalised.
        shape: of the shingles.
        floor: similarity from which on every pair is found.
    """

    def __init__(self, texts: Sequence[str], shape: Shape, floor: float) -> None:
        self._shape = shape
        self._floor = floor
        self._sets = [shingles(text, shape) for text in texts]
        self._rest: list[int] = []
        self._index: dict[str, list[int]] = defaultdict(list)
        common = Counter(shingle for one in self._sets for shingle in one)
        for place, one in enumerate(self._sets):
            shared = math.ceil(floor * len(one) - ROUNDING)
            for shingle in nsmallest(len(one) - shared + 1, one, key=lambda each: (common[each], each)):
                self._index[shingle].append(place)
            self._rest.append(shared - 1)
        self._gone: set[int] = set()
        self._purged = 0

    def forget(self, place: int) -> None:
        """Find this row no more. Where everything is alike, this keeps the search from comparing all with all."""
        self._gone.add(place)
        if 2 * (len(self._gone) - self._purged) > len(self._sets) - self._purged:
            self._purged = len(self._gone)
            for shingle, places in self._index.items():
                self._index[shingle] = [other for other in places if other not in self._gone]

    def like(self, text: str) -> Iterator[tuple[int, float]]:
        """Places of held-out rows at least `floor` similar to a normalised text, each with the exact similarity."""
        tokens = shingles(text, self._shape)
        hits: Counter[int] = Counter()
        for shingle in tokens & self._index.keys():
            hits.update(self._index[shingle])
        for place, count in sorted(hits.items()):
            least = self._floor / (1 + self._floor) * (len(tokens) + len(self._sets[place])) - ROUNDING
            if count + self._rest[place] >= least and place not in self._gone:
                similarity = jaccard(tokens, self._sets[place])
                if similarity >= self._floor:
                    yield place, similarity
