"""The tables of a run on the terminal: predicted and actual, ids that are not broken, details that it leaves out."""

from __future__ import annotations

import pytest

from guitarfish.show.rendering import Cell, Column, Table, dollars, print_table, show_table
from guitarfish.show.tables import plan_table
from training.planning.prediction import Compared


def test_plan_beside_actual(capsys: pytest.CaptureFixture[str]) -> None:
    figures = (
        Compared(name="memory of a worker", unit="bytes", predicted=2 * 2**30, actual=3 * 2**30),
        Compared(name="training", unit="seconds", predicted=120, actual=90),
        Compared(name="whole run", unit="seconds", predicted=None, actual=200),
        Compared(name="cost", unit="USD", predicted=0.5, actual=None),
    )
    show_table(plan_table("plan: ddp", figures))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["plan:", "ddp", "predicted", "actual", "ratio"]
    assert lines[1] == ["memory", "of", "a", "worker", "2.0", "GiB", "3.0", "GiB", "x", "1.50"]
    assert lines[2][-2:] == ["x", "0.75"]
    assert lines[3] == ["whole", "run", "-", "3", "min", "20", "s", "-"]
    assert lines[4] == ["cost", "$0.5000", "-", "-"]


RUN = "a-run-with-a-long-name-20261124-120000-abcd"


@pytest.mark.parametrize("columns", [None, "80", "0"])
def test_a_run_id_is_not_broken(
    columns: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", columns)
    print_table(["run", "state", "published", "cost"], [[RUN, "finished", f"{RUN}@12", "$0.0123"]])
    assert RUN in capsys.readouterr().out


def test_details_are_for_pages_unless_a_column_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    columns = [Column("metric"), Column("gain", "number", detailed=True), Column("bar", page_only=True)]
    show_table(
        Table(columns, [[Cell("f1", "lower"), Cell("+0.1", "+0.0 to +0.2"), Cell("", share=0.5)], ["em", None, ""]])
    )
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["metric", "gain"], ["f1", "+0.1", "(+0.0", "to", "+0.2)"], ["em", "-"]]


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (None, "-"),
        (0.0, "$0.00"),
        (5.5e-5, "$0.000055"),
        (1e-9, "<$0.000001"),
        (0.0123, "$0.0123"),
        (1234.5, "$1,234.50"),
    ],
)
def test_dollars_are_never_powers_of_ten(usd: float | None, text: str) -> None:
    assert dollars(usd) == text
