"""CSV for spreadsheets: a header row, raw numbers, and no cell that a spreadsheet would take for a formula."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A text that begins so is worked out by spreadsheets when the file is opened (OWASP: CSV injection)."""


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print CSV to stdout. None is an empty cell, a time is written as ISO 8601."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([_cell(column) for column in columns])
    for row in rows:
        writer.writerow([_cell(value) for value in row])


def _cell(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value
