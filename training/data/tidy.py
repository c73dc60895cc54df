"""What is left out before and after the split: poor rows, copies, and what is like a held-out row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from runspec.curation import CurationSpec
from runspec.errors import DataError
from training.data.certificate import leaking
from training.data.duplicates import Twin, exact_copies, near_duplicates
from training.data.example import Example
from training.data.funnel import Funnel
from training.data.quality import keep_good

Links = list[tuple[int, int]]


def tidy(examples: list[Example], spec: CurationSpec, funnel: Funnel) -> tuple[list[Example], Links]:
    """The rows that are good and say something new; and places of those that no hold-out may come between.

    Filters come first, so that of two near-duplicates the one that was cut off is not the one that stays.

    Raises:
        DataError: the filters leave no row; the package that finds near-duplicates is missing.
    """
    before = len(examples)
    examples = keep_good(examples, spec.filters, funnel)
    if before and not examples:
        raise _nothing_left(before, funnel)
    duplicates = spec.duplicates
    if duplicates.kind == "exact" or (duplicates.kind == "near" and duplicates.drop):
        examples = _without(examples, exact_copies(examples), "exact copy", funnel)
    if duplicates.kind != "near":
        return examples, []
    found = near_duplicates(examples, duplicates)
    if not duplicates.drop:
        return examples, found.links
    gone = {twin.place for twin in found.dropped}
    kept = [place for place in range(len(examples)) if place not in gone]
    moved = {old: new for new, old in enumerate(kept)}
    links = [(moved[left], moved[right]) for left, right in found.links]
    return _without(examples, found.dropped, "near-duplicate", funnel), links


def _without(examples: list[Example], twins: Sequence[Twin], stage: str, funnel: Funnel) -> list[Example]:
    reasons = [
        (examples[twin.place], f"similarity {twin.similarity:.2f} to {examples[twin.kept].origin}, which stays")
        if stage != "exact copy"
        else (examples[twin.place], f"says the same as {examples[twin.kept].origin}, which stays")
        for twin in twins
    ]
    funnel.drop(stage, reasons)
    gone = {twin.place for twin in twins}
    return [example for place, example in enumerate(examples) if place not in gone]


def apart_from(
    examples: list[Example], holdout: Sequence[Example], spec: CurationSpec, funnel: Funnel
) -> list[Example]:
    """The training rows that say something else than every held-out row."""
    held = {example.digest: example.origin for example in holdout}
    same = [
        (example, f"says the same as the held-out {held[example.digest]}")
        for example in examples
        if example.digest in held
    ]
    if same:
        funnel.drop("same as a held-out row", same)
        examples = [example for example in examples if example.digest not in held]
    if spec.duplicates.kind != "near":
        return examples
    leaks = leaking(examples, holdout, spec.duplicates)
    told = [
        (examples[place], f"similarity {similarity:.2f} to the held-out {other.origin}")
        for place, (other, similarity) in leaks.items()
    ]
    funnel.drop("like a held-out row", told)
    return [example for place, example in enumerate(examples) if place not in leaks]


def _nothing_left(before: int, funnel: Funnel) -> DataError:
    by_stage = Counter(dropped.stage for dropped in funnel.dropped)
    listed = ", ".join(f"{stage.removeprefix('filter ')} {count:,}" for stage, count in by_stage.most_common())
    first = funnel.dropped[0]
    return DataError(
        f"the quality filters drop all {before:,} rows ({listed}); the first: {first.origin}: {first.reason}",
        where="data.curation.filters",
        fix="loosen the filter that drops most of them, or remove it",
    )
