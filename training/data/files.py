"""Rows of one file: JSON lines, JSON, CSV or Parquet, each row with its place in the file.

A row that cannot be read becomes a Row with a problem, so that the caller decides whether it stops the run. A problem
of the whole file raises DataError.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runspec.errors import DataError
from training.data.values import describe

BOM_UTF8 = b"\xef\xbb\xbf"
BOMS_OTHER = (b"\xff\xfe", b"\xfe\xff")
LARGEST_CELL = 2**26
"""Characters of a CSV cell; Python's own limit of 131,072 is less than a long document."""
UNDECODED = re.compile("[\udc80-\udcff]")
"""What `surrogateescape` makes of bytes that are not UTF-8."""


@dataclass(frozen=True)
class Row:
    """One row as it is in its source.

    Attributes:
        origin: its place, such as `train.jsonl:7 (row 6)`; lines and rows count from 1.
        values: column to value; empty where the row cannot be read.
        problem: why it cannot be read, and the fix; empty for a readable row.
    """

    origin: str
    values: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


Reader = Callable[[Path, str], Iterator[Row]]


def read_file(path: Path, name: str) -> Iterator[Row]:
    """Rows of a data file, in its order.

    Args:
        path: the file.
        name: what origins call it.

    Raises:
        DataError: unknown suffix, empty, not readable, damaged as a whole.
    """
    if path.is_dir():
        raise DataError(f"{name} is a folder.", where=str(path), fix="Use `{kind: folder, path: ...}`.")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"The suffix of {name}, {path.suffix!r}, is not one of {', '.join(READERS)}.",
            where=str(path),
            fix="Convert the file, or rename it.",
        )
    try:
        with path.open("rb") as file:
            start = file.read(len(BOM_UTF8) + 1)
        if path.suffix.lower() != ".parquet":
            _check_start(start, path, name)
        yield from reader(path, name)
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror or error}.", where=str(path)) from error


def _check_start(start: bytes, path: Path, name: str) -> None:
    if not start or start == BOM_UTF8:
        raise DataError(f"{name} is empty.", where=str(path), fix="Write the rows first, or name another file.")
    if start.startswith(BOMS_OTHER):
        raise DataError(f"{name} is UTF-16 text.", where=str(path), fix="Save it as UTF-8.")
    if start.startswith(b"\x1f\x8b"):
        raise DataError(f"{name} is compressed (gzip).", where=str(path), fix="Decompress it first (gunzip).")


def read_json_lines(path: Path, name: str) -> Iterator[Row]:
    """One JSON object a line; blank lines are skipped."""
    row = 0
    with path.open("rb") as file:
        for line, data in enumerate(file, start=1):
            data = data.removeprefix(BOM_UTF8) if line == 1 else data
            if not data.strip():
                continue
            row += 1
            yield _json_row(data, f"{name}:{line} (row {row})")


def _json_row(data: bytes, origin: str) -> Row:
    try:
        values = json.loads(data.decode())
    except UnicodeDecodeError as error:
        return Row(origin, problem=f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8")
    except json.JSONDecodeError as error:
        return Row(origin, problem=f"not JSON: {error.msg} at column {error.colno}; write one JSON object a line")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets thousands deep
        return Row(origin, problem=f"JSON that cannot be read: {error}; correct or remove the line")
    return _object_row(values, origin)


def _object_row(values: Any, origin: str) -> Row:
    if not isinstance(values, dict):
        return Row(origin, problem=f"the row is {describe(values)}; write an object of column names and values")
    return Row(origin, values)


def read_json(path: Path, name: str) -> Iterator[Row]:
    """An array of objects, or an object in which exactly one value is an array: those are the rows."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
        values = json.loads(text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"{name} is not UTF-8 text: byte 0x{data[error.start]:02x} in line {line}."
        raise DataError(what, where=f"{path}:{line}", fix="Save it as UTF-8.") from None
    except json.JSONDecodeError as error:
        fix = "Rename it to .jsonl." if _looks_like_lines(text) else "Correct the file there."
        what = f"{name} is not JSON: {error.msg} in line {error.lineno}, column {error.colno}."
        raise DataError(what, where=f"{path}:{error.lineno}", fix=fix) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is JSON that cannot be read: {error}.", where=str(path)) from None
    for row, value in enumerate(_the_array(values, path, name), start=1):
        yield _object_row(value, f"{name} row {row}")


def _looks_like_lines(text: str) -> bool:
    """Whether the first line is JSON by itself: JSON lines under another name."""
    try:
        return isinstance(json.loads(text.lstrip().split("\n", 1)[0]), dict)
    except (ValueError, RecursionError):
        return False


def _the_array(values: Any, path: Path, name: str) -> list[Any]:
    if isinstance(values, dict):
        arrays = {key: value for key, value in values.items() if isinstance(value, list)}
        if len(arrays) != 1:
            held = f"{len(arrays)} arrays ({', '.join(arrays)})" if arrays else "no array"
            raise DataError(
                f"{name} is an object with {held}; the rows have to be in exactly one.",
                where=str(path),
                fix="Write an array of objects, or one object a line and name the file .jsonl.",
            )
        (values,) = arrays.values()
    if not isinstance(values, list):
        raise DataError(f"{name} is {describe(values)}.", where=str(path), fix="Write an array of objects.")
    return values


def read_csv(path: Path, name: str) -> Iterator[Row]:
    """A header and rows, separated by commas (tabs in .tsv); every value is text."""
    csv.field_size_limit(max(csv.field_size_limit(), LARGEST_CELL))
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter=separator, strict=True)
        try:
            header = next(reader, [])
            _check_header(header, path, name)
            yield from _csv_rows(reader, header, name)
        except csv.Error as error:
            what = f"{name} is not CSV: {error}, near line {reader.line_num}."
            fix = 'Put cells with quotes, commas or line breaks in quotes, and double the quotes inside ("").'
            raise DataError(what, where=f"{path}:{reader.line_num}", fix=fix) from None


def _csv_rows(reader: Any, header: list[str], name: str) -> Iterator[Row]:
    row, line = 0, reader.line_num + 1
    for cells in reader:
        origin = f"{name}:{line} (row {row + 1})"
        line = reader.line_num + 1
        if not cells:
            continue
        row += 1
        if len(cells) != len(header):
            problem = f"{len(cells)} cells where the header has {len(header)}; put cells with commas in quotes"
            yield Row(origin, problem=problem)
        elif bad := [column for column, cell in zip(header, cells, strict=True) if _undecoded(cell)]:
            yield Row(origin, problem=f"{bad[0]}: a byte that is not UTF-8; save the file as UTF-8")
        else:
            yield Row(origin, dict(zip(header, cells, strict=True)))


def _undecoded(cell: str) -> bool:
    return not cell.isascii() and UNDECODED.search(cell) is not None


def _check_header(header: list[str], path: Path, name: str) -> None:
    where = f"{path}:1"
    if any(_undecoded(cell) for cell in header):
        raise DataError(f"The header of {name} is not UTF-8 text.", where=where, fix="Save the file as UTF-8.")
    check_columns_differ(header, where, name)
    if any(not cell.strip() for cell in header):
        raise DataError(f"A column of {name} has no name.", where=where, fix="Name every column in the first line.")
    if len(header) == 1 and (other := [mark for mark in ";\t|" if mark in header[0]]):
        what = f"{name} has one column, {header[0]!r}: the separator seems to be {other[0]!r}."
        raise DataError(what, where=where, fix="Save it with commas, or with tabs and the suffix .tsv.")


def check_columns_differ(columns: list[str], where: str, name: str) -> None:
    """Raise DataError if two columns have one name: a row could hold only one of them."""
    twice = [column for column, count in Counter(columns).items() if count > 1]
    if twice:
        raise DataError(f"{name} has two columns called {twice[0]!r}.", where=where, fix="Rename or remove one.")


def read_parquet(path: Path, name: str) -> Iterator[Row]:
    """Rows of a Parquet file. Needs pyarrow."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            check_columns_differ(file.schema_arrow.names, str(path), name)
            if file.metadata.num_rows == 0:
                raise DataError(
                    f"{name} has no rows.", where=str(path), fix="Write the rows first, or name another file."
                )
            row = 1
            for batch in file.iter_batches(batch_size=1000):
                yield from arrow_rows(batch, name, row)
                row += batch.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        what = f"{name} cannot be read as Parquet: {str(error).splitlines()[0].rstrip('.')}."
        fix = "Write the file again, or check that the download is complete."
        raise DataError(what, where=str(path), fix=fix) from None


def arrow_rows(batch: Any, name: str, first: int) -> Iterator[Row]:
    """Rows of an Arrow table or record batch; `first` is the number of its first row."""
    try:
        values: list[dict[str, Any] | None] = batch.to_pylist()
    except UnicodeDecodeError:
        values = [_one_arrow_row(batch, place) for place in range(batch.num_rows)]
    for row, value in enumerate(values, start=first):
        origin = f"{name} row {row}"
        if value is None:
            yield Row(origin, problem="text that is not UTF-8; write the file again from text in UTF-8")
        else:
            yield Row(origin, {column: _without_padding(inner) for column, inner in value.items()})


def _one_arrow_row(batch: Any, place: int) -> dict[str, Any] | None:
    try:
        values: dict[str, Any] = batch.slice(place, 1).to_pylist()[0]
    except UnicodeDecodeError:
        return None
    return values


def _without_padding(value: Any) -> Any:
    """Without the nulls that Arrow puts in for keys that only other rows' objects have."""
    if isinstance(value, dict):
        return {key: _without_padding(inner) for key, inner in value.items() if inner is not None}
    return [_without_padding(inner) for inner in value] if isinstance(value, list) else value


READERS: dict[str, Reader] = {
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
}
