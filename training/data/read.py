"""The rows of a data source: a file, a folder of files, or a dataset on the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from runspec.data import DataSource, FileData, FolderData, HubData
from runspec.errors import DataError
from runspec.paths import PACKAGE, resolve_path
from training.data.files import READERS, Row, arrow_rows, read_file

__all__ = ["Row", "read_rows", "source_name"]

REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")


def read_rows(source: DataSource, folder: Path, key: str = "data.source") -> Iterator[Row]:
    """Rows of a source, in their order; what cannot be read of a row is in its `problem`.

    Args:
        folder: the run file's folder, which relative paths start from.
        key: dotted key of the run file that holds the source, for messages.

    Raises:
        DataError: not found, empty, damaged as a whole, the hub cannot be reached.
        SpecError: the path does not exist.
    """
    match source:
        case FileData():
            path = resolve_path(source.path, folder)
            rows = read_file(path, path.name)
        case FolderData():
            rows = _read_folder(source, resolve_path(source.path, folder), key)
        case HubData():
            rows = _read_hub(source, folder, key)
    first = next(rows, None)
    if first is None:
        raise DataError(
            f"{source_name(source)} has no rows.", where=key, fix="Write the rows first, or name another source."
        )
    return chain([first], rows)


def source_name(source: DataSource) -> str:
    """What messages call a source: its path as written, or its id and split on the hub."""
    return f"{source.id} [{source.split}]" if isinstance(source, HubData) else source.path


def _read_folder(source: FolderData, folder: Path, key: str) -> Iterator[Row]:
    """Rows of the files that match the pattern and hold data, in the order of their names."""
    if not folder.is_dir():
        raise DataError(
            f"{source.path} is a file, not a folder.", where=str(folder), fix="Use `{kind: file, path: ...}`."
        )
    try:
        found = sorted(path for path in folder.glob(source.pattern) if path.is_file())
    except (ValueError, NotImplementedError) as error:
        raise DataError(
            f"{source.pattern!r} is not a valid pattern: {error}.",
            where=f"{key}.pattern",
            fix="Write a pattern such as `*.jsonl`.",
        ) from None
    files = [path for path in found if path.suffix.lower() in READERS and not path.name.startswith(".")]
    if not files:
        others = ", ".join(path.name for path in sorted(folder.iterdir())[:5]) or "nothing"
        raise DataError(
            f"No data file in {source.path} matches {source.pattern!r}; the folder holds {others}.",
            where=str(folder),
            fix=f"Data files end in {', '.join(READERS)}: rename or convert them, or change the pattern.",
        )
    for path in files:
        yield from read_file(path, path.relative_to(folder).as_posix())


def _read_hub(source: HubData, folder: Path, key: str) -> Iterator[Row]:
    """Rows of one split, undecoded: images and audio stay bytes. A path is a folder laid out like a hub dataset."""
    row = 1
    for table in _load(source, folder, key).with_format("arrow").iter(1000):
        yield from arrow_rows(table, f"{source.id} [{source.split}]", row)
        row += table.num_rows


def _load(source: HubData, folder: Path, key: str) -> Any:
    try:
        from datasets import load_dataset
        from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
    except ImportError as error:
        raise DataError(
            "A hub dataset needs the package datasets, which is not installed.",
            where=key,
            fix="Install guitarfish with its extra cpu or gpu.",
        ) from error

    def refused(what: str, part: str, fix: str) -> DataError:
        return DataError(f"Dataset `{source.id}` {what}.", where=f"{key}.{part}", fix=fix)

    is_path = source.id.startswith((".", "/", "~", PACKAGE))
    if not is_path and not REPOSITORY.fullmatch(source.id):
        raise refused("is not a valid repository name", "id", "Write it as owner/name.")
    place = str(resolve_path(source.id, folder)) if is_path else source.id
    try:
        return load_dataset(place, source.subset, split=source.split, revision=source.revision)
    except DatasetNotFoundError as error:
        fix = "Check the id and the revision; for a gated or private dataset set HF_TOKEN and accept its terms."
        raise refused(f"was not found on the hub: {_first_line(error)}", "id", fix) from error
    except ConnectionError as error:
        fix = "Check the network or HF_ENDPOINT, or download the data and use `{kind: file}` or `{kind: folder}`."
        raise refused(f"cannot be reached: {_first_line(error)}", "id", fix) from error
    except DatasetGenerationError as error:
        fix = "Correct its files, or download them and use `{kind: folder}`, which names the row."
        raise refused(f"cannot be read: {_first_line(error.__cause__ or error)}", "id", fix) from error
    except ValueError as error:  # unknown split or subset, malformed id: only the message says which
        message = str(error).lower()
        part, fix = "id", "Write it as owner/name."
        if "split" in message or "instruction" in message:
            part, fix = "split", "Name a split that exists; part of one is written like train[:2000]."
        elif "config" in message:
            part, fix = "subset", f"Set {key}.subset to one that exists."
        raise refused(f"cannot be loaded: {_first_line(error)}", part, fix) from error
    except OSError as error:
        fix = "Check the id, that it has data files such as train.jsonl or *.parquet, and this machine's disk space."
        raise refused(f"cannot be loaded: {_first_line(error)}", "id", fix) from error


def _first_line(error: BaseException) -> str:
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line[:300].rstrip(".")
