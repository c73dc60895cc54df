"""What the verbs print: tables that fit a narrow terminal, JSON for programs, errors for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from runspec.errors import GuitarfishError

json_printed: ContextVar[bool] = ContextVar("json_printed", default=False)
"""Whether this command line has printed its JSON document: stdout holds one, so an error is not added to it."""


def print_json(value: Any) -> None:
    """Print one JSON document to stdout. Pydantic models and dates are taken as they are."""
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
    from rich.table import Table

    if title:
        say(title)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in right.split() else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    _console().print(table)


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print names and values below each other to stdout."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, _cell(value))
    _console().print(table)


def _cell(value: Any) -> Any:
    from rich.text import Text

    return Text("-" if value is None else str(value))


def say(text: str) -> None:
    """Print a line to stdout, wrapped to the terminal."""
    _console().print(text, markup=False, highlight=False)


def note(text: str) -> None:
    """Print a line to stderr: what a person wants to know and a program does not."""
    _console(stderr=True).print(text, markup=False, highlight=False)


def warn(text: str) -> None:
    """Print a warning to stderr."""
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


def _console(*, stderr: bool = False) -> Any:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def dollars(usd: float | None) -> str:
    """`$0.0123`, `$1.23`, `-`: two digits that count, cents from a dollar on."""
    if usd is None:
        return "-"
    if usd == 0 or usd >= 1:
        return f"${usd:,.2f}"
    return f"${usd:.4f}" if usd >= 0.0001 else f"${usd:.1e}"


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
