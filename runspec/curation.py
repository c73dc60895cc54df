"""What happens to rows between reading and training: copies, quality, balance, replay."""

from typing import Annotated, Literal

from pydantic import Field

from runspec.filters import QualityFilter
from runspec.source import DataSource, Layout
from runspec.strict import Strict


class KeepDuplicates(Strict):
    """Copies stay: a row that occurs twice is trained on twice. All copies are on one side of the hold-out."""

    kind: Literal["keep"] = "keep"


class ExactDuplicates(Strict):
    """Of rows with exactly the same content, one stays."""

    kind: Literal["exact"] = "exact"


class NearDuplicates(Strict):
    """Of rows with nearly the same content, the longest stays; no row that stays has a near-duplicate on the other side
    of the hold-out. The search is exact."""

    kind: Literal["near"] = "near"
    threshold: float = Field(default=0.8, ge=0.3, le=1)
    """Rows at least this similar are near-duplicates: the Jaccard similarity of their shingles, what users and the
    assistant say together."""
    unit: Literal["words", "characters"] = "words"
    """What a shingle is made of. Words suit prose of any length; characters find small edits in very short rows."""
    size: int = Field(default=3, ge=1, le=20)
    """Words (or characters: 5 is usual) in a shingle."""
    drop: bool = True
    """False keeps every row, with near-duplicates on one side: all trained on, or all held out."""
    permutations: int = Field(default=256, ge=16, le=4096)
    """Has no effect: the search is exact and takes no MinHash signatures. Kept for run files that set it."""


Duplicates = Annotated[KeepDuplicates | ExactDuplicates | NearDuplicates, Field(discriminator="kind")]


class EqualBalance(Strict):
    """As many rows of every value as the rarest has."""

    kind: Literal["equal"] = "equal"
    column: str
    """Column whose values are balanced."""


class CapBalance(Strict):
    """No more than a number of rows of any value."""

    kind: Literal["cap"] = "cap"
    column: str
    """Column whose values are balanced."""
    max_rows: int = Field(ge=1)
    """Rows of one value at most."""


class ShareBalance(Strict):
    """No value makes up more than a share of the rows."""

    kind: Literal["share"] = "share"
    column: str
    """Column whose values are balanced."""
    max_share: float = Field(gt=0, lt=1)
    """Largest share of the rows that one value may have, met within one row."""


Balance = Annotated[EqualBalance | CapBalance | ShareBalance, Field(discriminator="kind")]


class Replay(Strict):
    """Rows of another kind, mixed in so that the model forgets less of what the base model can do.

    They are never held out, take no `data.system_prompt`, and are not filtered; one that is like a held-out row is left
    out.
    """

    source: DataSource
    """Where the rows are."""
    layout: Layout = "auto"
    """Their layout; the method has to be able to train on it."""
    share: float = Field(default=0.1, gt=0, lt=0.9)
    """Share of all training rows that they make up, met within one row."""


class CurationSpec(Strict):
    """Which rows are left out as copies or as poor, how the rest is balanced, and what is mixed in."""

    duplicates: Duplicates = ExactDuplicates()
    """What happens to rows with the same content, or nearly the same."""
    filters: tuple[QualityFilter, ...] = ()
    """Quality filters, applied in order. Each dropped row is recorded with its reason."""
    balance: Balance | None = None
    """How the values of a column are balanced among the training rows. Null: not balanced."""
    replay: Replay | None = None
    """What is mixed into the training rows. Null: nothing."""
