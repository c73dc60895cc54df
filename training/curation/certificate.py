"""The leak certificate: how much of the hold-out the training side already has, found on the final rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from runspec.curation import Duplicates
from runspec.strict import Strict
from training.curation.duplicates import standard
from training.curation.similarity import Shape, SimilarTexts, normalise
from training.data.example import Example

BELOW = 0.2
"""How far below the threshold the highest similarity is still looked for."""
LOWEST_FLOOR = 0.1
STEP = 1e-8
"""Less than any difference of two similarities that is shown."""
PAIRS_SHOWN = 10


class LikePair(Strict):
    """A held-out row and a training row that is similar to it."""

    held_out: str
    """Origin of the held-out row: file, line and row."""
    trained: str
    """Origin of the training row."""
    similarity: float
    """Exact Jaccard similarity of their shingles."""


class LeakCertificate(Strict):
    """What the two sides of a run's data share, found on the final rows."""

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
    index = SimilarTexts([normalise(example.row_text) for example in holdout], Shape(spec.unit, spec.size), floor)
    highest: float | None = None
    pairs: list[LikePair] = []
    for example in train:
        # Below the threshold only the highest counts: what is no more similar than that need not be found.
        wanted = floor if highest is None else min(highest + STEP, spec.threshold)
        for place, similarity in index.similar_to(normalise(example.row_text), wanted):
            highest = max(similarity, highest or 0.0)
            if similarity >= spec.threshold:
                index.remove(place)
                origin = holdout[place].origin
                pairs.append(LikePair(held_out=origin, trained=example.origin, similarity=round(similarity, 4)))
    prompts = {normalise(example.prompt_text) for example in train} - {""}
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
        shared_prompts=sum(normalise(example.prompt_text) in prompts for example in holdout),
        shared_groups=len(groups & {example.group for example in holdout}),
        highest=None if highest is None else round(highest, 4),
        pairs=tuple(pairs[:PAIRS_SHOWN]),
    )


def _digest(examples: Sequence[Example]) -> str:
    lines = "\n".join(sorted(example.digest for example in examples))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
