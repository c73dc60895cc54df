"""What happens to rows between reading and training: duplicates, quality filters, balance, replay."""

from typing import Annotated, Literal

from pydantic import Field

from runspec.filters import QualityFilter
from runspec.source import DataSource, Layout
from runspec.strict import Strict


class KeepDuplicates(Strict):
    """Duplicates stay: a row that occurs twice is trained on twice. All copies are on one side of the hold-out."""

    kind: Literal["keep"] = "keep"


class ExactDuplicates(Strict):
    """Of rows with exactly the same content, one stays."""

    kind: Literal["exact"] = "exact"


class NearDuplicates(Strict):
    """Of near-duplicate rows, the longest stays; none that stays has a near-duplicate across the hold-out. The search
    is exact."""

    kind: Literal["near"] = "near"
    threshold: float = Field(default=0.8, ge=0.3, le=1)
    """Rows at least this similar are near-duplicates: the Jaccard similarity of their shingles, over what users
    and the assistant say."""
    unit: Literal["words", "characters"] = "words"
    """What a shingle is made of. Words suit prose of any length; characters find small edits in very short rows."""
    size: int = Field(default=3, ge=1, le=20)
    """Words (or characters: 5 is usual) in a shingle."""
    drop: bool = True
    """False keeps every row, but near-duplicates are still all trained on or all held out."""
    permutations: int = Field(default=256, ge=16, le=4096)
    """Has no effect: the search is exact and takes no MinHash signatures. Kept for run files that set it."""


Duplicates = Annotated[KeepDuplicates | ExactDuplicates | NearDuplicates, Field(discriminator="kind")]


class EqualBalance(Strict):
    """As many rows of every value as the rarest has."""

    kind: Literal["equal"] = "equal"
    column: str
    """Column whose values are balanced."""


class CapBalance(Strict):
    """At most a fixed number of rows of each value."""

    kind: Literal["cap"] = "cap"
    column: str
    """Column whose values are balanced."""
    max_rows: int = Field(ge=1)
    """Rows of one value at most."""


class ShareBalance(Strict):
    """No value makes up more than a given share of the rows."""

    kind: Literal["share"] = "share"
    column: str
    """Column whose values are balanced."""
    max_share: float = Field(gt=0, lt=1)
    """Largest share of the rows that one value may have, met to within one row."""


Balance = Annotated[EqualBalance | CapBalance | ShareBalance, Field(discriminator="kind")]


class Replay(Strict):
    """Rows of another kind, mixed in so that what the base model can do is not forgotten.

    They are never held out, get no `data.system_prompt`, and are not filtered; near-duplicates of held-out rows
    are dropped.
    """

    source: DataSource
    """Where they are."""
    layout: Layout = "auto"
    """Their layout; the method must be able to train on it."""
    share: float = Field(default=0.1, gt=0, lt=0.9)
    """Share of all training rows that they make up, met to within one row."""


class CurationSpec(Strict):
    """Which rows are dropped as duplicates or for their quality, how the rest is balanced, and what is mixed in."""

    duplicates: Duplicates = ExactDuplicates()
    """What happens to duplicates and near-duplicates."""
    filters: tuple[QualityFilter, ...] = ()
    """Quality filters, in their order. The reason for each dropped row is recorded."""
    balance: Balance | None = None
    """How the values of a column are balanced among the training rows. Null: as they come."""
    replay: Replay | None = None
    """What is mixed into the training rows. Null: nothing."""
