"""The leak certificate: how much of the hold-out the training side knows already, found on the final rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from runspec.curation import Duplicates, NearDuplicates
from runspec.strict import Strict
from training.data.example import Example
from training.data.join import HeldOut
from training.data.shingles import Shape, normalise
from training.data.wording import prompt_text, row_text

BELOW = 0.2
"""How far below the threshold the highest similarity is still looked for."""
LOWEST_FLOOR = 0.1
PAIRS_SHOWN = 10


class LikePair(Strict):
    """A held-out row and a training row that is like it."""

    held_out: str
    """Where the held-out row stands."""
    trained: str
    """Where the training row stands."""
    similarity: float
    """Exact Jaccard similarity of their shingles."""


class LeakCertificate(Strict):
    """What the two sides of a run's data share. Made of the final rows, not of how they were chosen."""

    train_rows: int
    """Rows trained on, replay among them."""
    holdout_rows: int
    """Rows held out."""
    train_digest: str
    """sha256 over the training rows, whatever their order."""
    holdout_digest: str
    """sha256 over the held-out rows, whatever their order."""
    method: str = "exact Jaccard similarity of shingle sets; every pair from `floor` on is found"
    """How they were compared."""
    threshold: float
    """Similarity from which on two rows are near-duplicates."""
    floor: float
    """Similarity from which on `highest` is exact."""
    unit: str
    """What shingles are made of: words or characters."""
    size: int
    """Words or characters in a shingle."""
    near_duplicates: int
    """Held-out rows with a near-duplicate among the training rows. 0 is a clean split."""
    shared_prompts: int
    """Held-out rows whose prompt is also a training row's, perhaps with another answer."""
    shared_groups: int
    """Groups with rows on both sides."""
    highest: float | None
    """Highest similarity between the sides; null where none reaches `floor`. Of a held-out row with near-duplicates,
    the first that was found counts."""
    pairs: tuple[LikePair, ...]
    """Some of the pairs from the threshold on."""

    @property
    def is_clean(self) -> bool:
        """Whether no held-out row has a near-duplicate among the training rows."""
        return self.near_duplicates == 0

    def in_words(self) -> str:
        """The finding on one line."""
        highest = f"none reaches {self.floor:.2f}"
        if self.highest is not None:  # rounded down: 0.797 is not yet 0.80
            highest = f"highest {math.floor(100 * self.highest) / 100:.2f}"
        verb = "has" if self.near_duplicates == 1 else "have"
        return (
            f"leak certificate: {self.near_duplicates:,} of {self.holdout_rows:,} held-out rows {verb} a "
            "near-duplicate among the training rows "
            f"(Jaccard >= {self.threshold:g} of {self.size} {self.unit}; {highest})"
        )


def certify(train: Sequence[Example], holdout: Sequence[Example], duplicates: Duplicates) -> LeakCertificate:
    """Compare the two sides as they are trained on and measured with.

    Args:
        train: all of it, replay rows too.
        duplicates: what counts as a near-duplicate; where the run file does not say, the default of kind near does.
    """
    spec = standard(duplicates)
    floor = max(LOWEST_FLOOR, spec.threshold - BELOW)
    held = HeldOut([normalise(row_text(example)) for example in holdout], Shape(spec.unit, spec.size), floor)
    highest, pairs = _search(train, holdout, held, spec.threshold)
    prompts = {normalise(prompt_text(example)) for example in train} - {""}
    groups = {example.group for example in train} - {None}
    return LeakCertificate(
        train_rows=len(train),
        holdout_rows=len(holdout),
        train_digest=_digest(train),
        holdout_digest=_digest(holdout),
        threshold=spec.threshold,
        floor=round(floor, 6),
        unit=spec.unit,
        size=spec.size,
        near_duplicates=len(pairs),
        shared_prompts=sum(normalise(prompt_text(example)) in prompts for example in holdout),
        shared_groups=len(groups & {example.group for example in holdout}),
        highest=highest,
        pairs=tuple(pairs[:PAIRS_SHOWN]),
    )


def standard(duplicates: Duplicates) -> NearDuplicates:
    """What a near-duplicate is in this run."""
    return duplicates if isinstance(duplicates, NearDuplicates) else NearDuplicates()


def _search(
    train: Sequence[Example], holdout: Sequence[Example], held: HeldOut, threshold: float
) -> tuple[float | None, list[LikePair]]:
    highest: float | None = None
    pairs: list[LikePair] = []
    for example in train:
        # Below the threshold only the highest counts: what is less similar than that need not be found.
        wanted = None if highest is None else min(highest, threshold)
        for place, similarity in held.like(normalise(row_text(example)), wanted):
            highest = max(similarity, highest or 0.0)
            if similarity >= threshold:
                held.forget(place)
                origin = holdout[place].origin
                pairs.append(LikePair(held_out=origin, trained=example.origin, similarity=round(similarity, 4)))
    return (None if highest is None else round(highest, 4)), pairs


def _digest(examples: Sequence[Example]) -> str:
    lines = "\n".join(sorted(example.digest for example in examples))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def leaking(
    examples: Sequence[Example], holdout: Sequence[Example], duplicates: Duplicates
) -> dict[int, tuple[Example, float]]:
    """Places of the rows that are near-duplicates of a held-out row, each with that row and the similarity."""
    spec = standard(duplicates)
    held = HeldOut([normalise(row_text(example)) for example in holdout], Shape(spec.unit, spec.size), spec.threshold)
    found: dict[int, tuple[Example, float]] = {}
    for place, example in enumerate(examples):
        matches = held.like(normalise(row_text(example)))
        if matches:
            other, similarity = max(matches, key=lambda match: (match[1], -match[0]))
            found[place] = (holdout[other], similarity)
    return found
