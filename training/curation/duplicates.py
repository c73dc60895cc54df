"""Copies and near-duplicates: which rows stay, which are dropped and why, and which belong on one side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from runspec.curation import Duplicates, NearDuplicates
from training.curation.funnel import Funnel
from training.curation.similarity import Shape, SimilarTexts, normalise
from training.data.example import Example

Links = list[tuple[int, int]]


@dataclass(frozen=True)
class Twin:
    """A row that repeats another.

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
        dropped: the rows to drop, each with the row it repeats.
        links: places of rows that stay and are near-duplicates, so that they belong on one side of the hold-out.
    """

    dropped: list[Twin] = field(default_factory=list)
    links: Links = field(default_factory=list)


def without_duplicates(examples: list[Example], spec: Duplicates, funnel: Funnel) -> tuple[list[Example], Links]:
    """The rows without copies, as the run file asks, and the places of those that belong on one side."""
    if spec.kind == "exact" or (spec.kind == "near" and spec.drop):
        copies = exact_copies(examples)
        reasons = [
            (examples[copy.place], f"same content as {examples[copy.kept].origin}, which stays") for copy in copies
        ]
        funnel.drop("exact copy", reasons)
        gone = {copy.place for copy in copies}
        examples = [example for place, example in enumerate(examples) if place not in gone]
    if spec.kind != "near":
        return examples, []
    found = near_duplicates(examples, spec)
    if not spec.drop:
        return examples, found.links
    reasons = [
        (examples[twin.place], f"similarity {twin.similarity:.2f} to {examples[twin.kept].origin}, which stays")
        for twin in found.dropped
    ]
    funnel.drop("near-duplicate", reasons)
    gone = {twin.place for twin in found.dropped}
    kept = [place for place in range(len(examples)) if place not in gone]
    moved = {old: new for new, old in enumerate(kept)}
    return [examples[place] for place in kept], [(moved[left], moved[right]) for left, right in found.links]


def exact_copies(examples: Sequence[Example]) -> list[Twin]:
    """All but one of the rows with the same content; the one of the smallest group stays, else the first."""
    kept: dict[str, int] = {}
    names = [(example.group or "", example.stratum or "") for example in examples]
    for place in sorted(range(len(examples)), key=lambda place: (names[place], place)):
        kept.setdefault(examples[place].digest, place)
    twins = [Twin(place, kept[example.digest], 1.0) for place, example in enumerate(examples)]
    return [twin for twin in twins if twin.place != twin.kept]


def near_duplicates(examples: Sequence[Example], spec: NearDuplicates) -> Twins:
    """Rows at least `spec.threshold` similar to one that stays.

    Rows are taken from the longest to the shortest, whatever their order in the file, and compared with those that
    stayed so far: of near-duplicates the longest stays, and each that is dropped is similar to one that stays. Rows
    with different verdicts (`label`) both stay: that one of two similar answers is worse is what they teach.
    """
    texts = [normalise(example.row_text) for example in examples]
    order = sorted(range(len(examples)), key=lambda place: (-len(texts[place]), examples[place].digest, place))
    index = SimilarTexts(texts, Shape(spec.unit, spec.size), spec.threshold, growing=True)
    found = Twins()
    for place in order:
        similar = dict(index.similar_to_own(place))
        same = [other for other in similar if examples[other].label == examples[place].label]
        if same and spec.drop:
            kept = max(same, key=lambda other: (similar[other], -other))
            found.dropped.append(Twin(place, kept, similar[kept]))
            continue
        found.links += [(place, other) for other in similar]
        if not same:
            index.add(place)
    found.dropped.sort(key=lambda twin: twin.place)
    return found


def apart_from_holdout(
    examples: list[Example], holdout: Sequence[Example], spec: Duplicates, funnel: Funnel
) -> list[Example]:
    """The training rows that differ from every held-out row; with `kind: near`, from all that are nearly the same."""
    held = {example.digest: example.origin for example in holdout}
    same = [
        (example, f"same content as the held-out {held[example.digest]}")
        for example in examples
        if example.digest in held
    ]
    if same:
        funnel.drop("same as a held-out row", same)
        examples = [example for example in examples if example.digest not in held]
    if spec.kind != "near":
        return examples
    return without_leaks(examples, holdout, spec, funnel, "like a held-out row")


def without_leaks(
    examples: Sequence[Example], holdout: Sequence[Example], spec: Duplicates, funnel: Funnel, stage: str
) -> list[Example]:
    """The rows that are not near-duplicates of a held-out row; the others are dropped in the funnel's `stage`."""
    near = standard(spec)
    index = SimilarTexts(
        [normalise(example.row_text) for example in holdout], Shape(near.unit, near.size), near.threshold
    )
    kept, leaks = [], []
    for example in examples:
        similar = index.similar_to(normalise(example.row_text))
        if similar:
            place, similarity = max(similar, key=lambda match: (match[1], -match[0]))
            leaks.append((example, f"similarity {similarity:.2f} to the held-out {holdout[place].origin}"))
        else:
            kept.append(example)
    funnel.drop(stage, leaks)
    return kept


def standard(spec: Duplicates) -> NearDuplicates:
    """What a near-duplicate is in this run; where the run file does not say, the default of kind near."""
    return spec if spec.kind == "near" else NearDuplicates()
