"""The live view's dollars: of earlier attempts too, beside the budget where there is one."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from guitarfish.show.live import LiveView
from training.run.budget import UNLIMITED, Budget
from training.worker.job import Event


def shown(budget: Budget) -> str:
    """What a view shows on a terminal and, line by line, elsewhere; an hour costs nothing, so time does not matter."""
    console = Console(file=StringIO(), width=200, force_terminal=False)
    view = LiveView(console, 0.0, budget)
    view.handle(Event("stage", text="training"))
    console.print(view._draw())
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_so_far_of_a_budget() -> None:
    out = shown(Budget(limit_usd=2.0, earlier_usd=0.5))
    assert "training, so far $0.5000 of $2.00" in out
    assert out.count("$0.5000 of $2.00") == 2


def test_so_far_without_a_budget() -> None:
    out = shown(UNLIMITED)
    assert out.count("so far") == 1
    assert "so far $0.00" in out
