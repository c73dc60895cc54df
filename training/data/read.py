"""Rows from where the run file says: a file, a folder of files, a dataset of the hub."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runspec.data import DataSource, FileData, FolderData, HubData
from runspec.errors import DataError, SpecError
from runspec.paths import resolve_path

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


@dataclass(frozen=True)
class Row:
    """One row as it was read.

    Attributes:
        origin: file name and row, counted from 1 (`train.jsonl:17` is line 17).
        values: column to value; None where the row could not be read.
        problem: why not; empty otherwise.
    """

    origin: str
    values: dict[str, Any] | None
    problem: str = ""


def read_rows(source: DataSource, folder: Path) -> Iterator[Row]:
    """The rows of a source, in order.

    Args:
        source: the run file's `data.source`.
        folder: the run file's folder.

    Raises:
        DataError: the source is not there or cannot be read as a whole; a bad row is a `Row` with a problem instead.
    """
    match source:
        case FileData():
            yield from _read_file(_existing(source.path, folder))
        case FolderData():
            for file in _files(_existing(source.path, folder), source.pattern):
                yield from _read_file(file)
        case HubData():
            yield from _read_hub(source)


def _existing(path: str, folder: Path) -> Path:
    try:
        return resolve_path(path, folder)
    except SpecError as error:
        raise DataError(error.what, where=f"data.source.path: {error.where}", fix=error.fix) from None


def _files(folder: Path, pattern: str) -> list[Path]:
    where = f"data.source.path: {folder}"
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder.", where=where, fix="Use source: {kind: file, path: ...}.")
    files = sorted(file for file in folder.glob(pattern) if file.is_file() and file.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(
            f"No file of {folder} matches {pattern!r} and ends in {', '.join(SUFFIXES)}.",
            where=where,
            fix="Check data.source.path and data.source.pattern.",
        )
    return files


def _read_file(file: Path) -> Iterator[Row]:
    where = f"data.source.path: {file}"
    if file.is_dir():
        raise DataError(f"{file} is a folder.", where=where, fix="Use source: {kind: folder, path: ...}.")
    if file.stat().st_size == 0:
        raise DataError(f"{file.name} is empty.", where=where, fix="Name a file with rows.")
    match file.suffix.lower():
        case ".jsonl":
            yield from _read_jsonl(file)
        case ".json":
            yield from _read_json(file)
        case ".csv":
            yield from _read_csv(file)
        case ".parquet":
            yield from _read_parquet(file)
        case other:
            raise DataError(
                f"{file.name} ends in {other or 'nothing'!r}, which is no data format known here.",
                where=where,
                fix=f"Use one of {', '.join(SUFFIXES)}.",
            )


def _read_jsonl(file: Path) -> Iterator[Row]:
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if line.strip():
                yield _json_row(f"{file.name}:{number}", line)


def _json_row(origin: str, line: bytes) -> Row:
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return Row(origin, None, f"is not UTF-8: byte {line[error.start]:#04x} at column {error.start + 1}")
    except ValueError as error:
        return Row(origin, None, f"is not JSON: {error}")
    if not isinstance(value, dict):
        return Row(origin, None, f"is a JSON {type(value).__name__}, not an object")
    return Row(origin, value)


def _read_json(file: Path) -> Iterator[Row]:
    where = f"data.source.path: {file}"
    try:
        value = json.loads(file.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{file.name} is not UTF-8: {error.reason} at byte {error.start}.", where=where) from error
    except ValueError as error:
        fix = "If it has one object a line, name it .jsonl." if "Extra data" in str(error) else "Mend the JSON there."
        raise DataError(f"{file.name} is not JSON: {error}.", where=where, fix=fix) from error
    rows = _array(value)
    if rows is None:
        raise DataError(
            f"{file.name} holds no list of rows.", where=where, fix="Use an array of objects, or an object with one."
        )
    for number, row in enumerate(rows, start=1):
        origin = f"{file.name}[{number}]"
        if isinstance(row, dict):
            yield Row(origin, row)
        else:
            yield Row(origin, None, f"is a JSON {type(row).__name__}, not an object")


def _array(value: Any) -> list[Any] | None:
    if isinstance(value, list):
        return value
    lists = [one for one in value.values() if isinstance(one, list)] if isinstance(value, dict) else []
    return lists[0] if len(lists) == 1 else None


def _read_csv(file: Path) -> Iterator[Row]:
    where = f"data.source.path: {file}"
    with file.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            header = next(reader)
            if len(set(header)) < len(header):
                twice = next(name for name in header if header.count(name) > 1)
                raise DataError(f"Column {twice!r} stands twice in {file.name}.", where=f"{where}:1", fix="Rename one.")
            for cells in reader:
                if cells:
                    yield _csv_row(f"{file.name}:{reader.line_num}", header, cells)
        except csv.Error as error:
            raise DataError(
                f"{file.name} is not CSV: {error}.", where=f"{where}:{reader.line_num}", fix="Check its quotes."
            ) from error


def _csv_row(origin: str, header: list[str], cells: list[str]) -> Row:
    if len(cells) != len(header):
        return Row(origin, None, f"has {len(cells)} cells, the header has {len(header)}")
    if any("\udc80" <= letter <= "\udcff" for cell in cells for letter in cell):
        return Row(origin, None, "is not UTF-8")
    return Row(origin, dict(zip(header, cells, strict=True)))


def _read_parquet(file: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        batches = pq.ParquetFile(file).iter_batches()
        number = 0
        for batch in batches:
            for values in batch.to_pylist():
                number += 1
                yield Row(f"{file.name}[{number}]", values)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{file.name} cannot be read as Parquet: {str(error).splitlines()[0]}",
            where=f"data.source.path: {file}",
            fix="Check that the file is whole.",
        ) from error


def _read_hub(source: HubData) -> Iterator[Row]:
    import datasets

    where = f"data.source.id: {source.id}"
    try:
        dataset = datasets.load_dataset(source.id, source.subset, split=source.split, revision=source.revision)
    except Exception as error:  # datasets raises its own, the hub client's, OSError and ValueError for user errors
        line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise DataError(
            f"The dataset {source.id!r} cannot be loaded: {line[:300]}",
            where=where,
            fix="Check id, subset and split, the network and HF_TOKEN; or name a local file.",
        ) from error
    for number, values in enumerate(dataset, start=1):
        yield Row(f"{source.id}[{number}]", dict(values))
