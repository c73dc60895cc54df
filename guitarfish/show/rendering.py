"""What the verbs print and write: tables that fit a narrow terminal, JSON for programs, errors for people, files."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runspec.errors import GuitarfishError, UserError

json_printed: ContextVar[bool] = ContextVar("json_printed", default=False)
"""Whether this command line has printed its JSON document: stdout holds one, so an error is not added to it."""
WHOLE = 0.6
"""Share of a line up to which the first column of a table, often an id to be copied, is not broken."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        kind: numbers are aligned to the right; words are long texts, which are given room on a page.
        detailed: the terminal shows the details of its cells too, in brackets; a page always shows them.
        page_only: a narrow terminal leaves it out.
    """

    heading: str
    kind: Literal["text", "number", "words", "code"] = "text"
    detailed: bool = False
    page_only: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        detail: a smaller text beside it, such as an interval.
        share: between 0 and 1, to be drawn as a bar.
        bad: whether it is a failure.
    """

    text: str
    detail: str = ""
    share: float | None = None
    bad: bool = False


@dataclass(frozen=True)
class Table:
    """A table that the terminal and the report both show. None is an empty cell."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell | str | None]]


def print_json(value: Any) -> None:
    """Print one JSON document to stdout. Pydantic models, dataclasses and dates are taken as they are."""
    json_printed.set(True)
    json.dump(value, sys.stdout, indent=2, default=_plain, ensure_ascii=False)
    sys.stdout.write("\n")


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "__dataclass_fields__"):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    return str(value)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "", right: str = "") -> None:
    """Print a table to stdout.

    Args:
        columns: headings.
        rows: cells; None is shown as `-`.
        title: a line above it.
        right: headings of the columns to align to the right, separated by spaces.
    """
    numbers = right.split()
    headings = [Column(name, "number" if name in numbers else "text") for name in columns]
    show_table(Table(headings, [[None if cell is None else str(cell) for cell in row] for row in rows]), title)


def show_table(table: Table, title: str = "") -> None:
    """Print a table to stdout, below a title."""
    from rich.table import Table as Drawn

    if title:
        say(title)
    console = _console()
    shown = [place for place, column in enumerate(table.columns) if not column.page_only]
    rows = [[_on_terminal(row[place], table.columns[place]) for place in shown] for row in table.rows]
    drawn = Drawn(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for place in shown:
        column = table.columns[place]
        whole = place == shown[0] and max((row[0].cell_len for row in rows), default=0) <= WHOLE * console.width
        justify: Literal["left", "right"] = "right" if column.kind == "number" else "left"
        drawn.add_column(column.heading, justify=justify, overflow="fold", no_wrap=whole)
    for row in rows:
        drawn.add_row(*row)
    console.print(drawn)


def _on_terminal(value: Cell | str | None, column: Column) -> Any:
    from rich.text import Text

    cell = value if isinstance(value, Cell) else Cell("-" if value is None else value)
    detail = f" ({cell.detail})" if cell.detail and column.detailed else ""
    return Text(cell.text + detail, style="red" if cell.bad else "")


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print names and values below each other to stdout."""
    from rich.table import Table as Drawn
    from rich.text import Text

    drawn = Drawn(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    drawn.add_column(style="bold", no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, value in facts.items():
        drawn.add_row(name, Text("-" if value is None else str(value)))
    _console().print(drawn)


def say(text: str) -> None:
    """Print a line to stdout, wrapped to the terminal."""
    _console().print(text, markup=False, highlight=False)


def note(text: str) -> None:
    """Print a line to stderr: what a person wants to know and a program does not."""
    _console(stderr=True).print(text, markup=False, highlight=False)


def warn(text: str) -> None:
    from rich.text import Text

    _console(stderr=True).print(Text("warning: ", style="bold yellow").append(Text(text, style="default not bold")))


def show_error(error: GuitarfishError, *, as_json: bool = False) -> None:
    """Print what is wrong, where, and the fix to stderr; with `as_json` also as JSON to stdout.

    Nothing is wrapped, so that a path or a line of the run file can be copied.
    """
    from rich.text import Text

    console = _console(stderr=True)
    lead = "stopped: " if error.exit_code == 130 else "error: "
    console.print(Text(lead, style="bold red").append(Text(str(error), style="default not bold")), soft_wrap=True)
    if as_json and not json_printed.get():
        fault = {"what": error.what, "where": error.where, "fix": error.fix, "exit_code": error.exit_code}
        print_json({"error": fault})


def write_text(file: Path, text: str) -> None:
    """Write a file that the user asked for, and make the folders above it. Raises UserError where it cannot."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        what = f"Cannot write {file}: {error.strerror}."
        raise UserError(what, where=str(file), fix="Choose a path that you may write to.") from None


def _console(*, stderr: bool = False) -> Any:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if console.width < 1:  # COLUMNS=0
        console.width = 80
    return console


def dollars(usd: float | None) -> str:
    """`$1.23`, `$0.0123`, `$0.000055`, `-`: cents from a dollar on, below it four digits or the two that count."""
    if usd is None:
        return "-"
    if usd == 0 or usd >= 1:
        return f"${usd:,.2f}"
    if usd < 1e-6:
        return "<$0.000001"
    return f"${usd:.{max(4, 1 - math.floor(math.log10(usd)))}f}"


def duration(seconds: float | None) -> str:
    """`42 s`, `3 min 5 s`, `2 h 7 min`."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Bytes as GiB or MiB."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
