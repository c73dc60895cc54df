"""Which charts a report has: scores with intervals, trials of a search, loss and learning rate by step."""

from __future__ import annotations

from collections.abc import Sequence

from guitarfish.reporting.charts import (
    Estimate,
    IntervalChart,
    LineChart,
    Series,
    interval_chart,
    line_chart,
    running_mean,
)
from guitarfish.reporting.gather import ReportData
from guitarfish.reporting.tables import ScoreRow

SMOOTH_FROM = 30
"""Steps from which a running mean is drawn over the losses: those of small batches jump."""


def score_charts(rows: Sequence[ScoreRow], before: str) -> list[IntervalChart]:
    """Metrics between 0 and 1 on one axis; each other one, such as the loss, on its own.

    Args:
        before: what the run starts from is called.
    """
    groups = [(row, _estimates(row, before)) for row in rows]
    shared = [(row, found) for row, found in groups if not row.lower_is_better and _within_unit(found)]
    alone = [(row, found) for row, found in groups if (row, found) not in shared]
    charts = [_score_chart("Scores, 0 to 1, with 95 % intervals", shared, (0.0, 1.0))]
    charts += [_score_chart("On a scale of its own, with 95 % intervals", [(row, found)], None) for row, found in alone]
    return [chart for chart in charts if chart is not None]


def _estimates(row: ScoreRow, before: str) -> list[Estimate]:
    found = ((before, "base", row.before), ("few-shot", "few-shot", row.few_shot), ("tuned", "tuned", row.after))
    return [Estimate(label, kind, one.mean, one.low, one.high) for label, kind, one in found if one is not None]


def _within_unit(estimates: Sequence[Estimate]) -> bool:
    return all(0 <= end <= 1 for one in estimates for end in (one.low, one.mean, one.high))


def _name(row: ScoreRow) -> str:
    return f"{row.metric} (lower is better)" if row.lower_is_better else row.metric


def _score_chart(
    title: str, found: Sequence[tuple[ScoreRow, list[Estimate]]], domain: tuple[float, float] | None
) -> IntervalChart | None:
    groups = [(_name(row) + (", the gate's" if row.gated else ""), estimates) for row, estimates in found]
    return interval_chart(title, _in_words(groups), groups, domain)


def _in_words(groups: Sequence[tuple[str, Sequence[Estimate]]]) -> str:
    return " ".join(
        f"{heading}: {', '.join(f'{one.label} {one.mean:.3f} ({one.low:.3f} to {one.high:.3f})' for one in estimates)}."
        for heading, estimates in groups
    )


def trial_chart(data: ReportData) -> IntervalChart | None:
    """Scores of a search's trials on the gate's metric; None where no trial was measured."""
    if data.search is None:
        return None
    estimates = [
        Estimate(f"trial {line.number}", _kind(line.number, data.search.chosen), *_ends(line.score))
        for line in data.search.trials
        if line.score is not None
    ]
    heading = f"{data.search.metric}; the untuned model has {data.search.base_score:.3f}"
    groups = [(heading, estimates)]
    return interval_chart("Measured trials, with 95 % intervals", _in_words(groups), groups) if estimates else None


def _kind(number: int, chosen: int) -> str:
    return "tuned" if number == chosen else "base"


def _ends(found: object) -> tuple[float, float, float]:
    from training.evaluation.scores import Score

    assert isinstance(found, Score)
    return found.mean, found.low, found.high


def loss_chart(data: ReportData) -> LineChart | None:
    """Training and hold-out loss by step, with the step whose checkpoint was taken; None where there is no log."""
    if data.log is None:
        return None
    loss, holdout = data.log.loss, data.log.holdout
    smooth = len(loss) >= SMOOTH_FROM
    series = [Series("training loss, each step", "steps" if smooth else "mean", loss)]
    if smooth:
        window = max(5, len(loss) // 15)
        series.append(Series(f"training loss, mean of {window} steps", "mean", running_mean(loss, window)))
    series.append(Series("hold-out loss, at checkpoints", "holdout", holdout, dotted=True))
    best = data.training.best_step if data.training else None
    mark = (float(best), f"taken: step {best}") if best is not None else None
    said = (
        [f"Training loss from {loss[0][1]:.3f} at step {loss[0][0]} to {loss[-1][1]:.3f} at step {loss[-1][0]}."]
        if loss
        else []
    )
    said += (
        [f"Hold-out loss {', '.join(f'{value:.3f} at step {step}' for step, value in holdout[-8:])}."]
        if holdout
        else []
    )
    return line_chart("Loss by step", " ".join(said), series, mark)


def rate_chart(data: ReportData) -> LineChart | None:
    """The learning rate by step; None where there is no log."""
    rate = data.log.rate if data.log else ()
    if not rate:
        return None
    said = f"Learning rate, at most {max(value for _, value in rate):.3g}, {rate[-1][1]:.3g} at the last step."
    return line_chart("Learning rate by step", said, [Series("learning rate", "rate", rate)])
