"""Columns that rows are grouped or balanced by: they have to be there, in every row."""

from __future__ import annotations

from collections.abc import Sequence

from runspec.errors import DataError
from training.data.files import Row
from training.data.values import RowError, describe


def check_column(rows: Sequence[Row], column: str, setting: str, source: str) -> None:
    """Check that a source has a column.

    Args:
        rows: its first readable rows.
        setting: dotted key of the run file that names the column.
        source: what messages call the source.

    Raises:
        DataError: it has not; with the columns it has.
    """
    columns = dict.fromkeys(name for row in rows for name in row.values)
    if column not in columns:
        what = f"{source} has no column {column!r}; it has {', '.join(columns) or 'none'}"
        raise DataError(what, where=setting, fix="name one of its columns, or null")


def column_value(row: Row, column: str, setting: str) -> str:
    """A row's value of a column, as text.

    Raises:
        RowError: it has none.
    """
    value = row.values.get(column)
    if isinstance(value, bool | int | str) and str(value).strip():
        return str(value)
    what = f"is {describe(value)}" if column in row.values and value != "" else "is missing"
    raise RowError(column, f"({setting}) {what}", "give every row a value there: text or a whole number")
