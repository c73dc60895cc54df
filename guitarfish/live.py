"""The live view of a run: one panel on a terminal, one line now and then where output is not a terminal."""

from __future__ import annotations

import threading
import time
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from guitarfish.rendering import dollars, duration, size
from training.budget import UNLIMITED, Budget
from training.job import Event
from training.progress import RunState

LINE_SECONDS = 15.0
"""How often a line is printed while a stage goes on, where output is not a terminal."""


class LiveView:
    """Draws a run's state; a context manager.

    Args:
        console: where to draw.
        usd_per_hour: price of the run's machines, for the dollars so far.
        budget: what earlier attempts cost, which counts too, and what the run may cost.
    """

    def __init__(self, console: Console, usd_per_hour: float, budget: Budget = UNLIMITED) -> None:
        self._console = console
        self._usd_per_hour = usd_per_hour
        self._budget = budget
        self._state = RunState()
        self._lock = threading.Lock()
        self._printed_notes = 0
        self._last_line = 0.0
        self._began = time.monotonic()
        self._live = Live(get_renderable=self._draw, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> LiveView:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop drawing; called again, nothing."""
        if self._live.is_started:
            self._live.stop()

    def handle(self, event: Event) -> None:
        """Show an event."""
        now = time.monotonic()
        with self._lock:
            before = len(self._state.done)
            self._state.apply(event, now)
            lines = [self._finished(name, seconds) for name, seconds in self._state.done[before:]]
            lines += [Text(f"  {note}", style="dim") for note in self._state.notes[self._printed_notes :]]
            self._printed_notes = len(self._state.notes)
            if not self._console.is_terminal and now - self._last_line > LINE_SECONDS:
                self._last_line = now
                lines.append(Text(f"  {_plain_line(self._state)}{self._of_budget(now)}"))
        for line in lines:
            self._console.print(line, soft_wrap=True)

    def _so_far(self, now: float) -> str:
        """What the run's attempts cost, and of how much."""
        spent = self._budget.earlier_usd + (now - self._began) / 3600 * self._usd_per_hour
        limit = self._budget.limit_usd
        return dollars(spent) if limit is None else f"{dollars(spent)} of {dollars(limit)}"

    def _of_budget(self, now: float) -> str:
        return "" if self._budget.limit_usd is None else f", so far {self._so_far(now)}"

    def _finished(self, name: str, seconds: float) -> Text:
        return Text.assemble(("✓ ", "green"), f"{name} ", (duration(seconds), "dim"))

    def _draw(self) -> RenderableType:
        with self._lock:
            state, now = self._state, time.monotonic()
            head = Text.assemble((state.stage, "bold"), f"  {duration(now - (state.stage_began or now))}")
            parts: list[Any] = [head]
            if state.steps and state.stage == "training":
                parts.append(_bar(state.step, state.steps, "step"))
            elif state.of_rows:
                parts.append(_bar(state.rows, state.of_rows, "answer"))
            parts.append(self._figures(now))
        return Group(*parts)

    def _figures(self, now: float) -> Table:
        figures = dict(_figures(self._state))
        figures["so far"] = self._so_far(now)
        table = Table.grid(padding=(0, 2))
        for name in figures:
            table.add_column(name)
        table.add_row(*(Text.assemble((f"{name} ", "dim"), value) for name, value in figures.items()))
        return table


def _bar(done: int, of: int, noun: str) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_row(ProgressBar(total=max(1, of), completed=done, width=40), f"{noun} {done} of {of}")
    return table


def _figures(state: RunState) -> list[tuple[str, str]]:
    figures: list[tuple[str, str]] = []
    if state.loss is not None and state.stage == "training":
        figures.append(("loss", f"{state.loss:.3f}"))
        if state.tokens_per_second:
            figures.append(("tokens/s", f"{state.tokens_per_second:,.0f}"))
        if state.seconds_left:
            figures.append(("left", duration(state.seconds_left)))
    if state.memory_bytes:
        figures.append(("memory a worker", size(state.memory_bytes)))
    return figures


def _plain_line(state: RunState) -> str:
    position = ""
    if state.stage == "training" and state.steps:
        position = f" step {state.step} of {state.steps}"
    elif state.of_rows:
        position = f" answer {state.rows} of {state.of_rows}"
    figures = ", ".join(f"{name} {value}" for name, value in _figures(state))
    return f"{state.stage}{position}" + (f": {figures}" if figures else "")
