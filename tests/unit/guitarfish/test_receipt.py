"""The receipt's table of plan beside actual."""

from __future__ import annotations

import pytest

from guitarfish.receipt import show_plan_beside
from training.planning.prediction import Compared, PlanBesideActual


def test_plan_beside_actual(capsys: pytest.CaptureFixture[str]) -> None:
    figures = (
        Compared(name="memory of a worker", unit="bytes", predicted=2 * 2**30, actual=3 * 2**30),
        Compared(name="training", unit="seconds", predicted=120, actual=90),
        Compared(name="whole run", unit="seconds", predicted=None, actual=200),
        Compared(name="cost", unit="USD", predicted=0.5, actual=None),
    )
    show_plan_beside(PlanBesideActual(hardware="2x RTX 4090", strategy="ddp", figures=figures))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["plan:", "ddp", "predicted", "actual", "ratio"]
    assert lines[1] == ["memory", "of", "a", "worker", "2.0", "GiB", "3.0", "GiB", "x", "1.50"]
    assert lines[2][-2:] == ["x", "0.75"]
    assert lines[3] == ["whole", "run", "-", "3", "min", "20", "s", "-"]
    assert lines[4] == ["cost", "$0.5000", "-", "-"]
