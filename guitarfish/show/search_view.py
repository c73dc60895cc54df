"""A search while it runs and when it has ended: a table on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import threading
import time

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from guitarfish.show.rendering import dollars, duration, say, show_table
from guitarfish.show.tables import measured_trial_table, trial_table
from tuning.progress import TrialState
from tuning.records import SearchResult

ENDED = ("finished", "pruned", "failed", "interrupted", "over_budget")


class SearchView:
    """Draws one line for each trial; a context manager.

    Args:
        console: where to draw.
        budget_usd: shown beside what was spent; None where there is none.
    """

    def __init__(self, console: Console, budget_usd: float | None) -> None:
        self._console = console
        self._budget = f" of {dollars(budget_usd)}" if budget_usd is not None else ""
        self._states: list[TrialState] = []
        self._spent = 0.0
        self._shown: dict[int, tuple[str, float | None]] = {}
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._live = Live(get_renderable=self._draw, console=console, refresh_per_second=2, transient=True)

    def __enter__(self) -> SearchView:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live.is_started:
            self._live.stop()

    def show(self, states: list[TrialState], spent_usd: float) -> None:
        """Show the state of all trials; called several times a second."""
        with self._lock:
            self._states, self._spent = states, spent_usd
            lines = [line for state in states if (line := self._change(state))]
        if self._console.is_terminal and not self._live.is_started:
            self._live.start()
        for line in lines:
            self._console.print(Text(line), soft_wrap=True)

    def _change(self, state: TrialState) -> str:
        """A line about a trial that ended or, without a terminal, that reached another checkpoint."""
        seen = (state.state, state.holdout_loss)
        before = self._shown.get(state.trial.number, ("waiting", None))
        self._shown[state.trial.number] = seen
        if seen == before or state.state in ("waiting", "starting"):
            return ""
        if state.state not in ENDED and self._console.is_terminal:
            return ""
        loss = f", hold-out loss {state.holdout_loss:.3f}" if state.holdout_loss is not None else ""
        reason = f": {state.reason}" if state.reason and state.state != "pruned" else ""
        return f"  {_name(state)}: {state.state}, step {state.step}{loss}, {dollars(state.usd)}{reason}"

    def _draw(self) -> RenderableType:
        with self._lock:
            ended = sum(state.state in ENDED for state in self._states)
            table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title_justify="left")
            for heading in ("trial", "rank", "lr", "state", "step", "hold-out loss", "cost"):
                table.add_column(heading, justify="left" if heading == "state" else "right")
            for state in self._states:
                table.add_row(*_cells(state))
            passed = duration(time.monotonic() - self._began)
            table.caption = f"{ended} of {len(self._states)} trials, {passed}, {dollars(self._spent)}{self._budget}"
            return table


def _name(state: TrialState) -> str:
    return f"trial {state.trial.number}, rank {state.trial.rank}, lr {state.trial.learning_rate:g}"


def _cells(state: TrialState) -> list[str]:
    doing = f"{state.state} {state.rows}/{state.of_rows}" if state.state == "measuring" else state.state
    return [
        str(state.trial.number),
        str(state.trial.rank),
        f"{state.trial.learning_rate:g}",
        doing,
        f"{state.step}/{state.steps}" if state.steps else str(state.step or "-"),
        "-" if state.holdout_loss is None else f"{state.holdout_loss:.3f}",
        dollars(state.usd),
    ]


def show_result(result: SearchResult) -> None:
    """Print the result of each trial and which one was chosen."""
    show_table(trial_table(result))
    for line in result.trials:
        if line.outcome == "failed":
            say(f"trial {line.number} failed: {line.reason}")
    say("")
    show_table(
        measured_trial_table(result),
        f"measured trials, with 95 % intervals; the base model has {result.metric} {result.base_score:.3f}",
    )
    say("")
    budget = f" of {dollars(result.budget_usd)}" if result.budget_usd is not None else ""
    say(f"the search cost {dollars(result.cost_usd)}{budget}")
    say(why_chosen(result))
    for number in result.too_far:
        say(f"trial {number} was left out: its drift on general prompts is above gate.max_drift")
    if not result.trials[result.chosen].passed:
        say("the chosen trial does not pass the run file's gate: it would not be published")


def why_chosen(result: SearchResult) -> str:
    """Why that trial was chosen, on one line."""
    chosen, best = result.trials[result.chosen], result.trials[result.best]
    if chosen is best:
        return f"chosen: rank {chosen.rank}, lr {chosen.learning_rate:g}, the best; no smaller rank is as good"
    rows = best.score.n if best.score else 0
    return (
        f"chosen: rank {chosen.rank}, lr {chosen.learning_rate:g}: the smallest rank whose {result.metric} does not "
        f"differ beyond chance from the best (trial {best.number}, rank {best.rank}) on {rows} held-out rows"
    )
