"""The live view of a run: a panel on a terminal, a line every 15 seconds where output is not a terminal."""

from __future__ import annotations

import threading
import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from guitarfish.show.rendering import dollars, duration, size
from training.run.budget import UNLIMITED, Budget
from training.run.progress import RunState
from training.worker.job import Event

LINE_SECONDS = 15.0
"""How often a line is printed during a stage, where output is not a terminal."""


class LiveView:
    """Draws a run's state; a context manager.

    Args:
        console: where to draw.
        usd_per_hour: price of the run's machines, for the dollars so far.
        budget: what the run may cost, and what earlier attempts have cost.
    """

    def __init__(self, console: Console, usd_per_hour: float, budget: Budget = UNLIMITED) -> None:
        self._console = console
        self._usd_per_hour = usd_per_hour
        self._budget = budget
        self._state = RunState()
        self._lock = threading.Lock()
        self._printed_notes = 0
        self._last_line = 0.0
        self._printed = ""
        self._began = time.monotonic()
        self._live = Live(get_renderable=self._draw, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> LiveView:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop drawing. May be called twice."""
        if self._live.is_started:
            self._live.stop()

    def handle(self, event: Event) -> None:
        now = time.monotonic()
        with self._lock:
            before = len(self._state.done)
            self._state.apply(event, now)
            done = self._state.done[before:]
            lines = [Text.assemble(("✓ ", "green"), f"{name} ", (duration(seconds), "dim")) for name, seconds in done]
            lines += [Text(f"  {note}", style="dim") for note in self._state.notes[self._printed_notes :]]
            self._printed_notes = len(self._state.notes)
            plain = _plain_line(self._state)
            if not self._console.is_terminal and plain != self._printed and now - self._last_line > LINE_SECONDS:
                self._last_line, self._printed = now, plain
                budget = f", so far {self._so_far(now)}" if self._budget.limit_usd is not None else ""
                lines.append(Text(f"  {plain}{budget}"))
        for line in lines:
            self._console.print(line, soft_wrap=True)

    def _so_far(self, now: float) -> str:
        """What the run's attempts have cost, and of which budget."""
        spent = self._budget.earlier_usd + (now - self._began) / 3600 * self._usd_per_hour
        limit = self._budget.limit_usd
        return dollars(spent) if limit is None else f"{dollars(spent)} of {dollars(limit)}"

    def _draw(self) -> RenderableType:
        with self._lock:
            state, now = self._state, time.monotonic()
            parts: list[RenderableType] = [
                Text.assemble((state.stage, "bold"), f"  {duration(now - (state.stage_began or now))}")
            ]
            if (done := _done(state)) is not None:
                noun, count, of = done
                bar = Table.grid(padding=(0, 1))
                bar.add_row(ProgressBar(total=max(1, of), completed=count, width=40), f"{noun} {count} of {of}")
                parts.append(bar)
            figures = [*_figures(state), ("so far", self._so_far(now))]
            row = Table.grid(padding=(0, 2))
            row.add_row(*(Text.assemble((f"{name} ", "dim"), value) for name, value in figures))
            parts.append(row)
        return Group(*parts)


def _done(state: RunState) -> tuple[str, int, int] | None:
    """What is counted in this stage, how many are done, and of how many."""
    if state.steps and state.stage == "training":
        return "step", state.step, state.steps
    return ("answer", state.rows, state.of_rows) if state.of_rows else None


def _figures(state: RunState) -> list[tuple[str, str]]:
    figures: list[tuple[str, str]] = []
    if state.loss is not None and state.stage == "training":
        figures.append(("loss", f"{state.loss:.3f}"))
        if state.tokens_per_second:
            figures.append(("tokens/s", f"{state.tokens_per_second:,.0f}"))
        if state.seconds_left:
            figures.append(("left", duration(state.seconds_left)))
    if state.memory_bytes:
        figures.append(("memory per worker", size(state.memory_bytes)))
    return figures


def _plain_line(state: RunState) -> str:
    done = _done(state)
    position = f" {done[0]} {done[1]} of {done[2]}" if done else ""
    figures = ", ".join(f"{name} {value}" for name, value in _figures(state))
    return f"{state.stage}{position}" + (f": {figures}" if figures else "")
