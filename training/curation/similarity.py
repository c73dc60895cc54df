"""How similar two texts are, and an exact search for the texts that are similar to a given one."""

from __future__ import annotations

import math
import re
import unicodedata
from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer, kana and Chinese characters: written without spaces, so each counts as a word."""
WORDS = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+|[^\w\s.,;:!?'\"]")
"""A word, or a mark that means something: `+`, `<` and brackets do, the punctuation of prose does not."""
ROUNDING = 1e-9
"""So that 0.8 of 10 shingles are 8, not 9."""


@dataclass(frozen=True)
class Shape:
    """What a shingle is: `size` neighbouring words or characters."""

    unit: Literal["words", "characters"]
    size: int


def normalise(text: str) -> str:
    """The text in Unicode's NFKC form, in lower case, with single spaces."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(text.lower().split())


def words_of(normalised: str) -> list[str]:
    return WORDS.findall(normalised)


def shingles(normalised: str, shape: Shape) -> frozenset[str]:
    """The set of all runs of `shape.size` words or characters; never empty, as a shorter text is one shingle."""
    if shape.unit == "characters":
        size = shape.size
        if len(normalised) <= size:
            return frozenset((normalised,))
        return frozenset([normalised[start : start + size] for start in range(len(normalised) - size + 1)])
    words = words_of(normalised)
    if len(words) < shape.size:
        return frozenset((" ".join(words) or normalised,))
    return frozenset(map(" ".join, zip(*(words[start:] for start in range(shape.size)), strict=False)))


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """Shared shingles divided by all shingles of both (Jaccard 1912): 1 for equal sets, 0 for sets that share none."""
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)


class SimilarTexts:
    """An index of texts that finds every text at least `floor` similar to a given one, with the exact similarity.

    Two texts of similarity t share at least t*n of the n shingles of either. So if all shingles are put in one order,
    rarest first, the first n - t*n + 1 of both texts have one in common, and only those are looked up (the prefix
    filter of Chaudhuri, Ganti and Kaushik 2006). How many of them are shared limits how many can be shared in all
    (as in Xiao, Wang, Lin and Yu 2008), which rules out most of what is found. Shingles are compared by 64-bit hashes.

    Args:
        texts: normalised. They are known by their place in this sequence.
        floor: no similarity below it can be asked for.
        growing: start empty, to be filled by `add`; then only these texts themselves can be searched for.
    """

    def __init__(self, texts: Sequence[str], shape: Shape, floor: float, *, growing: bool = False) -> None:
        self._shape, self._floor = shape, floor
        hashes = [self._hashes(text) for text in texts]
        found, counts = np.unique(np.concatenate([np.zeros(0, np.int64), *hashes]), return_counts=True)
        # Among themselves, texts share nothing by a shingle that only one of them has.
        self._known = found[counts > 1] if growing else found
        order = np.argsort(counts[counts > 1] if growing else counts, kind="stable")
        self._rank = np.empty(len(order), np.int32)
        self._rank[order] = np.arange(len(order), dtype=np.int32)
        self._sizes = np.array([len(one) for one in hashes], np.int64)
        self._rest = np.array([len(one) - self._prefix(len(one), floor) for one in hashes], np.int64)
        self._last = np.zeros(len(texts), np.int32)
        self._ranks = [self._ranked(one) for one in hashes]
        self._marked = np.zeros(len(order), bool)
        self._places: dict[int, array[int]] = defaultdict(lambda: array("i"))
        self._present = np.zeros(len(texts), bool)
        self._added = self._removed = 0
        if not growing:
            for place in range(len(texts)):
                self.add(place)

    def add(self, place: int) -> None:
        self._present[place] = True
        self._added += 1
        for rank in self._looked_up(self._ranks[place], int(self._sizes[place]), self._floor):
            self._places[rank].append(place)
            self._last[place] = rank

    def remove(self, place: int) -> None:
        """Find this text no more. Where all texts are alike, this keeps a search from comparing all with all."""
        self._present[place] = False
        self._removed += 1
        if 2 * self._removed > self._added:
            self._places.clear()
            self._added = self._removed = 0
            for other in np.flatnonzero(self._present).tolist():
                self.add(other)

    def similar_to(self, text: str, at_least: float | None = None) -> list[tuple[int, float]]:
        """Places of the texts that are similar to a normalised text, in order, with the exact similarity.

        Args:
            at_least: similarity from which texts are wanted, not below the floor; None for the floor itself.
        """
        hashes = self._hashes(text)
        return self._search(self._ranked(hashes), len(hashes), self._floor if at_least is None else at_least)

    def similar_to_own(self, place: int) -> list[tuple[int, float]]:
        """As `similar_to`, for the text at that place, whether it was added or not."""
        return self._search(self._ranks[place], int(self._sizes[place]), self._floor)

    def _search(self, ranks: Any, size: int, wanted: float) -> list[tuple[int, float]]:
        looked_up = self._looked_up(ranks, size, wanted)
        hits = [np.frombuffer(self._places[rank], np.int32) for rank in looked_up if rank in self._places]
        if not hits:
            return []
        counts = np.bincount(np.concatenate(hits))
        places = np.flatnonzero(counts)
        # Of two texts, the one whose last shingle looked up is rarer has all other shared shingles in its rest.
        rest = np.where(self._last[places] < looked_up[-1], self._rest[places], size - self._prefix(size, wanted))
        most = np.minimum(counts[places] + rest, np.minimum(size, self._sizes[places]))
        needed = wanted / (1 + wanted) * (size + self._sizes[places]) - ROUNDING
        self._marked[ranks] = True
        found = []
        for place in places[(most >= needed) & self._present[places]].tolist():
            shared = int(np.count_nonzero(self._marked[self._ranks[place]]))
            similarity = shared / (size + int(self._sizes[place]) - shared)
            if similarity >= wanted:
                found.append((place, similarity))
        self._marked[ranks] = False
        return found

    def _hashes(self, text: str) -> Any:
        each = shingles(text, self._shape)
        return np.fromiter(map(hash, each), np.int64, len(each))

    def _ranked(self, hashes: Any) -> Any:
        """Ranks of the shingles that are known, the rarest first."""
        at = np.searchsorted(self._known, hashes)
        at[at == len(self._known)] = 0
        return np.sort(self._rank[at[self._known[at] == hashes]]) if len(self._known) else self._rank

    def _looked_up(self, ranks: Any, size: int, similarity: float) -> list[int]:
        """The shingles of a text's prefix that are known. Unknown ones are rarer than all others: they come first."""
        found: list[int] = ranks[: max(0, self._prefix(size, similarity) - (size - len(ranks)))].tolist()
        return found

    @staticmethod
    def _prefix(size: int, similarity: float) -> int:
        """How many of a text's shingles are looked up, so that one of them at least is shared."""
        return size - math.ceil(similarity * size - ROUNDING) + 1
