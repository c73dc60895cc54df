"""The tables of a report: scores, funnel, time and dollars by phase, attempts, plan beside actual. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.hardware import Hardware
from cluster.ledger import Attempt
from guitarfish.rendering import dollars, duration, size
from guitarfish.reporting.gather import ReportData

if TYPE_CHECKING:
    from training.evaluation.scores import Gain, Score
    from training.planning.prediction import Compared

PHASES = {
    "queued": "waiting for machines",
    "starting": "Ray, workers, loading the model",
    "training": "optimiser steps that count",
    "evaluating": "answers and scores, before and after",
    "checkpointing": "writing checkpoints and publishing",
    "recomputed": "steps done again after a failure",
    "idle": "waiting, and what no other phase accounts for",
}


@dataclass(frozen=True)
class ScoreRow:
    """One metric, before and after.

    Attributes:
        before: of what the run starts from.
        few_shot: of the untuned model with examples in its prompt.
        after, gain, over_few_shot: None where the tuned model was not measured.
    """

    metric: str
    lower_is_better: bool
    gated: bool
    before: Score
    few_shot: Score | None
    after: Score | None
    gain: Gain | None
    over_few_shot: Gain | None


def score_rows(data: ReportData) -> list[ScoreRow]:
    """All metrics in the order of the run file; empty where nothing was measured."""
    from training.evaluation.scores import lower_is_better, score

    gate, seed, result = data.spec.gate.metric, data.spec.seed, data.result
    if result is not None:
        shots, over = result.few_shot or {}, result.gain_over_few_shot or {}
        return [
            ScoreRow(
                metric,
                lower_is_better(metric),
                metric == gate,
                result.base[metric],
                shots.get(metric),
                after,
                result.gain[metric],
                over.get(metric),
            )
            for metric, after in result.tuned.items()
        ]
    if data.before is None:
        return []
    few_shot = data.before.few_shot.metrics if data.before.few_shot else {}
    return [
        ScoreRow(
            metric,
            lower_is_better(metric),
            metric == gate,
            score(metric, values, seed=seed),
            score(metric, few_shot[metric], seed=seed) if metric in few_shot else None,
            None,
            None,
            None,
        )
        for metric, values in data.before.base.metrics.items()
    ]


@dataclass(frozen=True)
class Bar:
    """A line with a bar beside it.

    Attributes:
        share: length of the bar, between 0 and 1.
    """

    name: str
    cells: tuple[str, ...]
    share: float
    remark: str = ""


def funnel_bars(data: ReportData) -> list[Bar]:
    """Rows by what became of them; the bars are the rows left."""
    steps = data.data.funnel if data.data else ()
    most = max((step.left for step in steps), default=0) or 1
    return [Bar(step.stage, (f"{step.change:+,}", f"{step.left:,}"), step.left / most, step.example) for step in steps]


def phase_bars(attempts: Sequence[Attempt]) -> list[Bar]:
    """Seconds and dollars by phase over all attempts, the longest first."""
    seconds: dict[str, float] = {}
    usd: dict[str, float] = {}
    for attempt in attempts:
        for phase, spent in attempt.seconds.items():
            seconds[phase] = seconds.get(phase, 0.0) + spent
            usd[phase] = usd.get(phase, 0.0) + spent / 3600 * attempt.start.price_usd_per_hour
    whole = sum(seconds.values()) or 1.0
    ordered = sorted(seconds, key=lambda phase: -seconds[phase])
    return [
        Bar(
            phase,
            (duration(seconds[phase]), f"{seconds[phase] / whole:.0%}", dollars(usd[phase])),
            seconds[phase] / whole,
            PHASES.get(phase, ""),
        )
        for phase in ordered
        if seconds[phase] >= 0.05
    ]


def lost_to_failures(attempts: Sequence[Attempt]) -> tuple[float, float]:
    """Seconds and dollars that would not have been spent without failures: starting again, and steps done again."""
    lost_s = lost_usd = 0.0
    for place, attempt in enumerate(attempts):
        again = attempt.seconds.get("recomputed", 0.0) + (attempt.seconds.get("starting", 0.0) if place else 0.0)
        lost_s += again
        lost_usd += again / 3600 * attempt.start.price_usd_per_hour
    return lost_s, lost_usd


@dataclass(frozen=True)
class AttemptRow:
    """One attempt of the ledger, as text."""

    number: int
    outcome: str
    well: bool
    reason: str
    machine: str
    step: int
    recomputed: int
    time: str
    cost: str
    price: str


def attempt_rows(attempts: Sequence[Attempt]) -> list[AttemptRow]:
    """All attempts in their order."""
    return [
        AttemptRow(
            number=one.start.attempt,
            outcome=one.outcome.replace("_", " "),
            well=one.outcome in ("finished", "pruned"),
            reason=one.reason,
            machine=f"{_machine(one.start.hardware)} on {one.start.host}, workers: {one.start.workers}",
            step=one.step,
            recomputed=one.recomputed_steps,
            time=duration(one.seconds_total),
            cost=dollars(one.cost_usd),
            price=f"{dollars(one.start.price_usd_per_hour)} an hour ({one.start.price_source}, {one.start.price_date})",
        )
        for one in attempts
    ]


def _machine(hardware: Hardware) -> str:
    if not hardware.gpus:
        return f"{hardware.cpu}, {hardware.cores} cores"
    return f"{len(hardware.gpus)} x {hardware.gpus[0].name}"


@dataclass(frozen=True)
class PlanRow:
    """One figure, predicted and measured, as text."""

    name: str
    predicted: str
    actual: str
    ratio: str


def plan_rows(data: ReportData) -> list[PlanRow]:
    """The plan beside the run; without a receipt the plan alone; empty where nothing was planned."""
    from training.planning.prediction import Compared

    if data.receipt is not None and data.receipt.plan is not None:
        return [_plan_row(figure) for figure in data.receipt.plan.figures]
    if data.prediction is None:
        return []
    row = data.prediction.row
    hours = row.hours * 3600 if row.hours is not None else None
    planned = (
        ("memory of a worker", "bytes", row.worker_bytes),
        ("training", "seconds", row.training_seconds),
        ("whole run", "seconds", hours),
        ("cost", "USD", row.usd),
    )
    return [_plan_row(Compared(name=name, unit=unit, predicted=value, actual=None)) for name, unit, value in planned]


def _plan_row(figure: Compared) -> PlanRow:
    write = {"bytes": size, "seconds": duration, "USD": dollars}[figure.unit]
    predicted, actual = ("–" if value is None else write(value) for value in (figure.predicted, figure.actual))
    ratio = f"× {figure.actual / figure.predicted:.2f}" if figure.predicted and figure.actual else "–"
    return PlanRow(figure.name, predicted, actual, ratio)
