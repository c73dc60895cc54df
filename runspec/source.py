"""Where rows come from: a file, a folder of files, a dataset on the hub; and how a row is laid out."""

from typing import Annotated, Literal

from pydantic import Field

from runspec.paths import FilePath
from runspec.strict import Strict


class FileData(Strict):
    """One file: .jsonl, .json, .csv or .parquet."""

    kind: Literal["file"] = "file"
    path: FilePath
    """File, relative to the run file's folder, or `package:NAME/inside`."""


class FolderData(Strict):
    """All data files of one folder, in the order of their names."""

    kind: Literal["folder"] = "folder"
    path: FilePath
    """Folder, relative to the run file's folder."""
    pattern: str = "*"
    """Which files of it, as a glob."""


class HubData(Strict):
    """A dataset on the Hugging Face hub, read with `datasets`."""

    kind: Literal["hub"] = "hub"
    id: str
    """Repository, for example `HuggingFaceH4/no_robots`."""
    subset: str | None = None
    """Configuration name, where the dataset has several."""
    split: str = "train"
    """Split, in the syntax of `datasets`, for example `train[:2000]`."""
    revision: str = "main"
    """Branch, tag or commit."""


DataSource = Annotated[FileData | FolderData | HubData, Field(discriminator="kind")]
Layout = Literal["auto", "messages", "prompt_completion", "alpaca", "sharegpt", "text", "preference", "labelled"]
CONVERSATIONS: tuple[Layout, ...] = ("messages", "prompt_completion", "alpaca", "sharegpt", "text")
"""Layouts of rows to imitate."""
PAIRS: tuple[Layout, ...] = ("preference",)
"""Layouts of rows with a chosen and a rejected answer."""
VERDICTS: tuple[Layout, ...] = ("labelled",)
"""Layouts of rows with one answer and whether it is good."""
