"""The training data: where it is, what is dropped, what is held out."""

from typing import Annotated, Literal

from pydantic import Field

from runspec.curation import CurationSpec
from runspec.source import CONVERSATIONS, PAIRS, VERDICTS, DataSource, FileData, FolderData, HubData, Layout
from runspec.strict import Strict

__all__ = [
    "CONVERSATIONS",
    "PAIRS",
    "VERDICTS",
    "DataSource",
    "DataSpec",
    "FileData",
    "FolderData",
    "Holdout",
    "HubData",
    "Layout",
    "SourceHoldout",
    "SplitHoldout",
]


class SplitHoldout(Strict):
    """Hold out a part of the data, chosen by a hash: the same rows on every machine and in every order."""

    kind: Literal["split"] = "split"
    fraction: float = Field(default=0.1, gt=0, lt=0.9)
    """Share of the groups (or rows) to hold out."""
    group_key: str | None = None
    """Column whose value keeps rows together: rows that share it are all trained on or all held out. Null hashes
    each row by itself, so identical rows still fall on one side."""


class SourceHoldout(Strict):
    """A separate hold-out. Rows that also occur in the training data are an error."""

    kind: Literal["source"] = "source"
    source: DataSource
    """Where it is; in the layout of the training data, or as conversations: only prompts and answers are needed."""


Holdout = Annotated[SplitHoldout | SourceHoldout, Field(discriminator="kind")]


class DataSpec(Strict):
    """What is trained on and what is held out."""

    source: DataSource
    """Where the rows are."""
    layout: Layout = "auto"
    """How a row is laid out. `auto` decides from the columns of the first rows and shows what it found."""
    system_prompt: str | None = None
    """A system message for every conversation that has none."""
    on_bad_row: Literal["stop", "skip"] = "stop"
    """Stop at the first bad rows, or count them, set them aside in the run's folder, and go on."""
    max_length: int = Field(default=2048, ge=16)
    """Longest training example, in tokens."""
    too_long: Literal["truncate", "drop", "split"] = "truncate"
    """What happens to a longer one: cut at the end, dropped, or split into pieces that are all trained on."""
    holdout: Holdout = SplitHoldout()
    """What is never trained on, and measured before and after."""
    curation: CurationSpec = CurationSpec()
    """Which rows are dropped as duplicates or for their quality, how the rest is balanced, and what is mixed in."""
    max_rows: int | None = Field(default=None, ge=1)
    """Train on at most this many rows of `source`, chosen by the run's seed. Replay rows come on top."""
