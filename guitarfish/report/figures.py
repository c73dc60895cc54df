"""Which charts a report has: scores with intervals, trials of a search, loss and learning rate by step."""

from __future__ import annotations

from collections.abc import Sequence

from guitarfish.report.charts import (
    Estimate,
    IntervalChart,
    LineChart,
    Series,
    interval_chart,
    line_chart,
    running_mean,
)
from guitarfish.report.gather import ReportData
from guitarfish.show.tables import ScoreRow
from training.evaluation.scores import lower_is_better

SMOOTH_FROM = 30
"""Steps from which a running mean is drawn over the losses: those of small batches jump."""


def score_charts(rows: Sequence[ScoreRow], before: str) -> list[IntervalChart]:
    """Metrics between 0 and 1 on one axis; each other one, such as the loss, on its own.

    Args:
        before: the name of what the run starts from.
    """
    shared: list[tuple[str, list[Estimate]]] = []
    alone: list[tuple[str, list[Estimate]]] = []
    for row in rows:
        found = ((before, "base", row.before), ("few-shot", "few-shot", row.few_shot), ("tuned", "tuned", row.after))
        estimates = [Estimate(label, kind, one.mean, one.low, one.high) for label, kind, one in found if one]
        lower = lower_is_better(row.metric)
        heading = f"{row.metric}{' (lower is better)' if lower else ''}{', used by the gate' if row.gated else ''}"
        in_unit = all(0 <= end <= 1 for one in estimates for end in (one.low, one.mean, one.high))
        (shared if in_unit and not lower else alone).append((heading, estimates))
    charts = [interval_chart("Scores, 0 to 1, with 95 % intervals", shared, (0.0, 1.0))]
    charts += [interval_chart("With 95 % intervals, on its own scale", [group]) for group in alone]
    return [chart for chart in charts if chart is not None]


def trial_chart(data: ReportData) -> IntervalChart | None:
    """Scores of a search's trials on the gate's metric; None where no trial was measured."""
    if data.search is None:
        return None
    estimates = []
    for line in data.search.trials:
        if line.score is not None:
            kind = "tuned" if line.number == data.search.chosen else "base"
            estimates.append(Estimate(f"trial {line.number}", kind, line.score.mean, line.score.low, line.score.high))
    heading = f"{data.search.metric}; the untuned model has {data.search.base_score:.3f}"
    return interval_chart("Measured trials, with 95 % intervals", [(heading, estimates)])


def loss_chart(data: ReportData) -> LineChart | None:
    """Training and hold-out loss by step, with the step whose checkpoint was taken; None where there is no log."""
    if data.log is None:
        return None
    loss, holdout = data.log.loss, data.log.holdout
    series, words = [], []
    if loss:
        words.append(f"Training loss from {loss[0][1]:.3f} at step {loss[0][0]} to {loss[-1][1]:.3f} at {loss[-1][0]}.")
        if len(loss) < SMOOTH_FROM:
            series.append(Series("training loss, each step", "mean", loss))
        else:
            window = max(5, len(loss) // 15)
            series.append(Series("training loss, each step", "steps", loss))
            series.append(Series(f"training loss, mean of {window} steps", "mean", running_mean(loss, window)))
    if holdout:
        words.append(f"Hold-out loss {', '.join(f'{value:.3f} at step {step}' for step, value in holdout[-8:])}.")
        series.append(Series("hold-out loss, at checkpoints", "holdout", holdout, dotted=True))
    best = data.training.best_step if data.training else None
    return line_chart("Loss by step", " ".join(words), series, None if best is None else (best, f"taken: step {best}"))


def rate_chart(data: ReportData) -> LineChart | None:
    """The learning rate by step; None where there is no log."""
    rate = data.log.rate if data.log else ()
    if not rate:
        return None
    words = f"Learning rate, at most {max(value for _, value in rate):.3g}, {rate[-1][1]:.3g} at the last step."
    return line_chart("Learning rate by step", words, [Series("learning rate", "rate", rate)])
