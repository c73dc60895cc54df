"""The geometry of charts: ticks, scales, what is left out, what a line of many points keeps."""

from __future__ import annotations

import math
import re

import pytest

from guitarfish.reporting.charts import (
    BOTTOM,
    LEFT,
    MOST_POINTS,
    RIGHT,
    TOP,
    Estimate,
    Series,
    interval_chart,
    line_chart,
    path,
    running_mean,
    thin,
)
from guitarfish.reporting.scales import axis, wants_log


@pytest.mark.parametrize(
    ("values", "marks"),
    [
        ([0.0, 1.0], (0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        ([0.3, 5.6], (0, 2, 4, 6)),
        ([0.0, 0.0015], (0, 0.0005, 0.001, 0.0015)),
        ([-0.4, 0.4], (-0.4, -0.2, 0, 0.2, 0.4)),
        ([1e-7, 9e-7], (0, 2e-7, 4e-7, 6e-7, 8e-7, 1e-6)),
        ([0, 1e9], (0, 2e8, 4e8, 6e8, 8e8, 1e9)),
    ],
)
def test_ticks_are_round_and_hold_the_values(values: list[float], marks: tuple[float, ...]) -> None:
    found = axis(values, 0, 100)
    assert found.marks == pytest.approx(marks)
    assert found(found.low) == 0
    assert found(found.high) == 100
    assert all(0 <= found(value) <= 100 for value in values)


def test_steps_have_whole_ticks() -> None:
    assert axis([1, 3], 0, 100, whole=True).marks == (1, 2, 3)
    assert [tick.label for tick in axis([1, 24], 0, 100, whole=True).ticks] == ["0", "5", "10", "15", "20", "25"]


def test_labels_have_room() -> None:
    assert [tick.label for tick in axis([0, 2e-4], 0, 100).ticks] == ["0", "5e-5", "1e-4", "1.5e-4", "2e-4"]
    assert [tick.label for tick in axis([0, 1.5e-3], 0, 100).ticks] == ["0", "0.0005", "0.001", "0.0015"]
    assert [tick.label for tick in axis([0, 3e6], 0, 100, whole=True).ticks] == ["0", "1e6", "2e6", "3e6"]


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5, 1e-9, 1e12])
@pytest.mark.parametrize("count", [1, 40])
def test_values_that_are_all_alike_have_room_on_both_sides(value: float, count: int) -> None:
    found = axis([value] * count, 0, 100)
    assert found.low < value < found.high
    assert 0 < found(value) < 100


@pytest.mark.parametrize(
    ("values", "log"),
    [([4.0, 0.1], True), ([4.0, 0.5], False), ([4.0, 0.0], False), ([-1.0, 100.0], False), ([], False), ([3.0], False)],
)
def test_far_apart_and_positive_is_logarithmic(values: list[float], log: bool) -> None:
    assert wants_log(values) is log


def test_a_logarithmic_axis_gives_equal_ratios_equal_lengths() -> None:
    found = axis([0.05, 9.0], 0, 300, log=True)
    assert (found.low, found.high) == pytest.approx((0.05, 10))
    assert found(1.0) - found(0.1) == pytest.approx(found(10.0) - found(1.0), abs=0.2)
    assert [tick.label for tick in found.ticks] == ["0.05", "0.1", "0.2", "0.5", "1", "2", "5", "10"]
    assert len(axis([1e-12, 1e3], 0, 300, log=True).marks) <= 8
    assert axis([1e-12, 1e3], 0, 300, log=True)(1e3) <= 300


def test_a_line_lies_within_the_plot() -> None:
    chart = line_chart("Loss", "", [Series("loss", "mean", [(step, 3 / step) for step in range(1, 25)])])
    assert chart is not None
    points = [tuple(map(float, pair.split())) for pair in re.split("[ML]", chart.lines[0].path)[1:]]
    assert len(points) == 24
    assert all(LEFT <= x <= RIGHT and TOP <= y <= BOTTOM for x, y in points)
    assert points[0][1] < points[-1][1], "a loss that falls goes down on the page"


def test_a_single_point_is_a_dot() -> None:
    chart = line_chart("Loss", "", [Series("loss", "mean", [(7, 1.5)])])
    assert chart is not None
    assert len(chart.lines[0].dots) == 1


def test_what_is_not_finite_is_left_out() -> None:
    points = [(1, 2.0), (2, math.nan), (3, math.inf), (4, 1.0)]
    chart = line_chart("Loss", "", [Series("loss", "mean", points)])
    assert chart is not None
    assert chart.lines[0].path.count("L") == 1
    assert "nan" not in chart.lines[0].path
    assert line_chart("Loss", "", [Series("loss", "mean", [(1, math.nan)]), Series("other", "mean", [])]) is None


def test_many_points_are_thinned_and_keep_their_spikes() -> None:
    points = [(step, 1.0) for step in range(10_000)]
    points[1234], points[9_000] = (1234, 50.0), (9_000, -50.0)
    kept = thin(points, MOST_POINTS)
    assert len(kept) <= MOST_POINTS + 2
    assert {points[0], points[-1], points[1234], points[9_000]} <= set(kept)
    assert kept == sorted(kept)
    assert thin(points[:100], MOST_POINTS) == points[:100]


def test_running_mean() -> None:
    points = [(step, float(step % 2)) for step in range(100)]
    smooth = running_mean(points, 10)
    assert [x for x, _ in smooth] == list(range(100))
    assert all(abs(y - 0.5) < 0.1 for _, y in smooth)
    assert running_mean([], 5) == []


def test_path() -> None:
    assert path([(1, 2), (3.5, 4)]) == "M1 2L3.5 4"
    assert path([]) == ""


def test_intervals_are_in_order_and_in_the_plot() -> None:
    groups = [
        ("exact_match", [Estimate("base", "base", 0.1, 0.0, 0.2), Estimate("tuned", "tuned", 0.9, 0.8, 1.0)]),
        ("contains", [Estimate("tuned", "tuned", 1.0, 1.0, 1.0)]),
    ]
    chart = interval_chart("Scores", "", groups, (0, 1))
    assert chart is not None
    whiskers = [one for group in chart.groups for one in group.whiskers]
    assert all(84 <= one.low <= one.at <= one.high <= 388 for one in whiskers)
    heights = [one.y for one in whiskers]
    assert heights == sorted(heights)
    assert heights[-1] < chart.bottom < chart.height
    assert interval_chart("Scores", "", []) is None
