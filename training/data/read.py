"""The rows of a data source: a file, a folder of files, or a dataset on the hub."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from runspec.data import DataSource, FileData, FolderData, HubData
from runspec.errors import DataError
from runspec.paths import resolve_path
from training.data.files import READERS, Row, read_file
from training.data.hub import read_hub

__all__ = ["Row", "read_rows", "source_name"]


def read_rows(source: DataSource, folder: Path, key: str = "data.source") -> Iterator[Row]:
    """Rows of a source, in their order; what cannot be read of a row is in its `problem`.

    Args:
        source: where the rows are.
        folder: the run file's folder, which relative paths start from.
        key: the source's in the run file, for errors.

    Raises:
        DataError: nothing there, empty, damaged as a whole, the hub cannot be reached.
        SpecError: the path names nothing.
    """
    match source:
        case FileData():
            path = resolve_path(source.path, folder)
            rows = read_file(path, path.name, key)
        case FolderData():
            rows = _folder_rows(source, resolve_path(source.path, folder), key)
        case HubData():
            rows = read_hub(source, folder, key)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{source_name(source)} has no rows", where=key, fix="write the rows first")
    return chain([first], rows)


def source_name(source: DataSource) -> str:
    """What messages call a source: its path as written, or its id and split on the hub."""
    return f"{source.id} [{source.split}]" if isinstance(source, HubData) else source.path


def _folder_rows(source: FolderData, folder: Path, key: str) -> Iterator[Row]:
    for path in _data_files(source, folder, key):
        yield from read_file(path, path.relative_to(folder).as_posix(), key)


def _data_files(source: FolderData, folder: Path, key: str) -> list[Path]:
    """Files of the folder that match the pattern and hold data, in the order of their names."""
    if not folder.is_dir():
        fix = f"use {key}: {{kind: file, path: ...}}"
        raise DataError(f"{source.path} is a file, not a folder", where=str(folder), fix=fix)
    try:
        found = sorted(path for path in folder.glob(source.pattern) if path.is_file())
    except (ValueError, NotImplementedError) as error:
        what = f"{source.pattern!r} is no pattern: {error}"
        raise DataError(what, where=f"{key}.pattern", fix="write for example '*.jsonl'") from None
    files = [path for path in found if path.suffix.lower() in READERS and not path.name.startswith(".")]
    if not files:
        others = ", ".join(path.name for path in sorted(folder.iterdir())[:5]) or "nothing"
        what = f"no data file in {source.path} matches {source.pattern!r}; it holds {others}"
        raise DataError(what, where=str(folder), fix=f"data files end in {', '.join(READERS)}")
    return files
