"""Copies and near-duplicates among the rows: which stay, which go and why, and which belong on one side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from runspec.curation import NearDuplicates
from runspec.errors import DataError
from training.data.example import Example
from training.data.shingles import Shape, jaccard, normalise, shingles
from training.data.wording import row_text

SEED = 20_130
"""Of the MinHash signatures. Candidates are confirmed exactly, so another seed gives the same rows, misses apart."""
CHUNK = 4096
"""Rows whose shingles are in memory at once."""
MISSED = 0.005
"""Largest probability that a pair just at the threshold shares no band."""
MARGIN = 4
"""Standard errors below the threshold at which a pair's estimated similarity rules it out."""


@dataclass(frozen=True)
class Twin:
    """A row that says what another says.

    Attributes:
        place: of the row.
        kept: place of the row that stays.
        similarity: exact Jaccard similarity of the two.
    """

    place: int
    kept: int
    similarity: float


@dataclass
class Twins:
    """What the search found.

    Attributes:
        dropped: the rows that go, with what they are like.
        links: places of rows that stay and are near-duplicates: no hold-out may come between them.
    """

    dropped: list[Twin] = field(default_factory=list)
    links: list[tuple[int, int]] = field(default_factory=list)


def exact_copies(examples: Sequence[Example]) -> list[Twin]:
    """All but one of the rows that say the same; the one of the smallest group stays, else the first."""
    kept: dict[str, int] = {}
    names = [(example.group or "", example.stratum or "") for example in examples]
    for place in sorted(range(len(examples)), key=lambda place: (names[place], place)):
        kept.setdefault(examples[place].digest, place)
    twins = [Twin(place, kept[example.digest], 1.0) for place, example in enumerate(examples)]
    return [twin for twin in twins if twin.place != twin.kept]


def near_duplicates(examples: Sequence[Example], spec: NearDuplicates) -> Twins:
    """Rows at least `spec.threshold` similar to one that stays.

    Rows are taken from the longest to the shortest, whatever their order in the file, and compared with those that
    stayed so far: of near-duplicates the longest stays, and each that goes is like one that stays. Rows with different
    verdicts (`label`) both stay: that one of two similar answers is worse is what they teach.

    Candidates share a band of MinHash values (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets,
    ch. 3) and are confirmed by the exact similarity, so nothing is dropped that is less similar; of pairs just at the
    threshold up to `MISSED` are missed.

    Raises:
        DataError: the package rensa is not installed.
    """
    texts = [normalise(row_text(example)) for example in examples]
    order = sorted(range(len(examples)), key=lambda place: (-len(texts[place]), examples[place].digest, place))
    search = _Search(texts, spec)
    found = Twins()
    for place, sketch in search.sketches(order):
        similar = search.similar(place, sketch, examples[place].label)
        same = [other for other in similar if examples[other].label == examples[place].label]
        if same and spec.drop:
            kept = max(same, key=lambda other: (similar[other], -other))
            found.dropped.append(Twin(place, kept, similar[kept]))
            continue
        found.links += [(place, other) for other in similar]
        if not same:
            search.add(place, sketch, examples[place].label)
    found.dropped.sort(key=lambda twin: twin.place)
    return found


class _Search:
    """MinHash signatures of the rows that represent all others, by band."""

    def __init__(self, texts: Sequence[str], spec: NearDuplicates) -> None:
        self._rensa = _load_rensa()
        self._texts = texts
        self._shape = Shape(spec.unit, spec.size)
        self._threshold = spec.threshold
        bands, rows = band_shape(spec.threshold, spec.permutations)
        self._length = bands * rows
        self._index = self._rensa.RMinHashLSH(spec.threshold, self._length, bands)
        self._sketches: dict[int, Any] = {}
        spread = math.sqrt(spec.threshold * (1 - spec.threshold) / self._length)
        self._worth_a_look = spec.threshold - MARGIN * spread
        self._shingles = lru_cache(CHUNK)(lambda place: shingles(texts[place], self._shape))
        self._of_text: dict[tuple[str, bool | None], int] = {}

    def sketches(self, order: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Each row with its signature, some at a time."""
        for start in range(0, len(order), CHUNK):
            places = order[start : start + CHUNK]
            tokens = [list(shingles(self._texts[place], self._shape)) for place in places]
            yield from zip(places, self._rensa.RMinHash.from_token_sets(tokens, self._length, SEED), strict=True)

    def similar(self, place: int, sketch: Any, label: bool | None) -> dict[int, float]:
        """Representatives that are near-duplicates of a row, with their exact similarity."""
        same = self._of_text.get((self._texts[place], label))
        if same is not None:  # what else is like it was linked to that one
            return {same: 1.0}
        found = {}
        for other in self._index.query(sketch):
            if sketch.jaccard(self._sketches[other]) >= self._worth_a_look:
                similarity = jaccard(self._shingles(place), self._shingles(other))
                if similarity >= self._threshold:
                    found[other] = similarity
        return found

    def add(self, place: int, sketch: Any, label: bool | None) -> None:
        """Make a row a representative."""
        self._index.insert(place, sketch)
        self._sketches[place] = sketch
        self._of_text[self._texts[place], label] = place


def band_shape(threshold: float, permutations: int) -> tuple[int, int]:
    """How a signature is cut in bands: the fewest and longest that miss at most `MISSED` at the threshold.

    Longer bands mean fewer candidates to confirm. A pair of similarity s shares one of b bands of r values with
    probability 1 - (1 - s^r)^b.

    Returns:
        Bands and values in each; their product is at most `permutations`.
    """
    for rows in range(permutations, 1, -1):
        bands = permutations // rows
        if (1 - threshold**rows) ** bands <= MISSED:
            return bands, rows
    return permutations, 1


def _load_rensa() -> Any:
    try:
        import rensa
    except ImportError as error:
        raise DataError(
            "near-duplicates are searched with the package rensa, which is not installed",
            where="data.curation.duplicates",
            fix="install guitarfish with its extra cpu or gpu, or set data.curation.duplicates: {kind: exact}",
        ) from error
    return rensa
