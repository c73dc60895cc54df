"""The geometry of charts: ticks, scales, what is left out, what a line of many points keeps."""

from __future__ import annotations

import math

import pytest

from guitarfish.report.charts import (
    BARS_LEFT,
    BARS_RIGHT,
    BOTTOM,
    LEFT,
    MOST_POINTS,
    RIGHT,
    TOP,
    Estimate,
    LineChart,
    Series,
    interval_chart,
    line_chart,
    running_mean,
    scale,
    thin,
)


def of_losses(values: list[float]) -> LineChart | None:
    return line_chart("Loss", "", [Series("loss", "mean", list(enumerate(values, 1)))])


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
    found = scale(values, 0, 100)
    assert found.marks == pytest.approx(marks)
    assert found(found.low) == 0
    assert found(found.high) == 100
    assert all(0 <= found(value) <= 100 for value in values)


def test_steps_have_whole_ticks() -> None:
    assert scale([1, 3], 0, 100, whole=True).marks == (1, 2, 3)
    assert [label for _, label in scale([1, 24], 0, 100, whole=True).ticks] == ["0", "5", "10", "15", "20", "25"]


def test_labels_have_room() -> None:
    assert [label for _, label in scale([0, 2e-4], 0, 100).ticks] == ["0", "5e-5", "1e-4", "1.5e-4", "2e-4"]
    assert [label for _, label in scale([0, 1.5e-3], 0, 100).ticks] == ["0", "0.0005", "0.001", "0.0015"]
    assert [label for _, label in scale([0, 3e6], 0, 100, whole=True).ticks] == ["0", "1e6", "2e6", "3e6"]


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5, 1e-9, 1e12])
@pytest.mark.parametrize("count", [1, 40])
def test_values_that_are_all_alike_have_room_on_both_sides(value: float, count: int) -> None:
    found = scale([value] * count, 0, 100)
    assert found.low < value < found.high
    assert 0 < found(value) < 100


@pytest.mark.parametrize(
    ("values", "log"),
    [([4.0, 0.1], True), ([4.0, 0.5], False), ([4.0, 0.0], False), ([-1.0, 100.0], False), ([3.0], False)],
)
def test_far_apart_and_positive_is_logarithmic(values: list[float], log: bool) -> None:
    chart = of_losses(values)
    assert chart is not None
    assert chart.y.log is log


def test_a_logarithmic_axis_gives_equal_ratios_equal_lengths() -> None:
    found = scale([0.05, 9.0], 0, 300, log=True)
    assert (found.low, found.high) == pytest.approx((0.05, 10))
    assert found(1.0) - found(0.1) == pytest.approx(found(10.0) - found(1.0), abs=0.2)
    assert [label for _, label in found.ticks] == ["0.05", "0.1", "0.2", "0.5", "1", "2", "5", "10"]
    assert len(scale([1e-12, 1e3], 0, 300, log=True).marks) <= 8
    assert scale([1e-12, 1e3], 0, 300, log=True)(1e3) <= 300


def test_a_line_lies_within_the_plot() -> None:
    chart = of_losses([3 / step for step in range(1, 25)])
    assert chart is not None
    points = [(chart.x(x), chart.y(y)) for x, y in chart.lines[0].points]
    assert len(points) == 24
    assert all(LEFT <= x <= RIGHT and TOP <= y <= BOTTOM for x, y in points)
    assert points[0][1] < points[-1][1], "a loss that falls goes down on the page"


def test_a_single_point_is_a_dot() -> None:
    chart = of_losses([1.5])
    assert chart is not None
    assert chart.lines[0].dotted


def test_what_is_not_finite_is_left_out() -> None:
    chart = of_losses([2.0, math.nan, math.inf, 1.0])
    assert chart is not None
    assert chart.lines[0].points == [(1, 2.0), (4, 1.0)]
    assert of_losses([math.nan]) is None
    assert of_losses([]) is None


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


def test_intervals_lie_within_the_plot() -> None:
    groups = [
        ("exact_match", [Estimate("base", "base", 0.1, 0.0, 0.2), Estimate("tuned", "tuned", 0.9, 0.8, 1.0)]),
        ("contains", [Estimate("tuned", "tuned", 1.0, 1.0, 1.0)]),
    ]
    chart = interval_chart("Scores", groups, (0, 1))
    assert chart is not None
    for _, estimates in groups:
        for one in estimates:
            assert BARS_LEFT <= chart.x(one.low) <= chart.x(one.mean) <= chart.x(one.high) <= BARS_RIGHT
    assert "contains: tuned 1.000 (1.000 to 1.000)." in chart.description
    assert interval_chart("Scores", []) is None
