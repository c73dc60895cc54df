"""The tables of a run that the terminal and the report both show: scores, phases, attempts, plan, funnel, trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.billing.ledger import Attempt
from cluster.machine.hardware import Hardware
from guitarfish.show.rendering import Cell, Column, Table, dollars, duration, size
from training.curation.funnel import Step
from training.evaluation.results import Before, EvaluationResult
from training.evaluation.scores import Gain, Score, lower_is_better, score
from training.planning.prediction import Compared
from training.run.receipt import AttemptLine
from tuning.records import SearchResult, TrialLine

PHASES = {
    "queued": "waiting for machines",
    "starting": "Ray, workers, loading the model",
    "training": "optimiser steps that count",
    "evaluating": "answers and scores, before and after",
    "checkpointing": "writing checkpoints and publishing",
    "recomputed": "steps done again after a failure",
    "idle": "waiting, and anything no other phase accounts for",
}
SHOWN_SECONDS = 0.05
"""Phases that took less are left out."""
_WRITTEN = {"bytes": size, "seconds": duration, "USD": dollars}


@dataclass(frozen=True)
class ScoreRow:
    """One metric, before and after. None: not measured.

    Attributes:
        before: of what the run starts from.
        few_shot: of the untuned model with examples in its prompt.
    """

    metric: str
    gated: bool
    before: Score
    few_shot: Score | None
    after: Score | None = None
    gain: Gain | None = None
    over_few_shot: Gain | None = None


def score_rows(result: EvaluationResult) -> list[ScoreRow]:
    few_shot, over = result.few_shot or {}, result.gain_over_few_shot or {}
    return [
        ScoreRow(
            metric,
            metric == result.gate.metric,
            result.base[metric],
            few_shot.get(metric),
            after,
            result.gain[metric],
            over.get(metric),
        )
        for metric, after in result.tuned.items()
    ]


def untuned_score_rows(before: Before, gate_metric: str = "", seed: int = 0) -> list[ScoreRow]:
    few_shot = before.few_shot.metrics if before.few_shot else {}
    return [
        ScoreRow(
            metric,
            metric == gate_metric,
            score(metric, values, seed=seed),
            score(metric, few_shot[metric], seed=seed) if metric in few_shot else None,
        )
        for metric, values in before.base.metrics.items()
    ]


def score_table(rows: Sequence[ScoreRow], before_name: str) -> Table:
    """All metrics with 95 % intervals; columns that nothing was measured for are left out."""
    tuned, shots = any(row.after for row in rows), any(row.few_shot for row in rows)
    columns = [Column("metric"), Column(before_name, "number", detailed=not tuned)]
    columns += [Column("few-shot", "number", detailed=not tuned)] if shots else []
    columns += [Column("tuned", "number"), Column("gain", "number", detailed=True)] if tuned else []
    columns += [Column("gain over few-shot", "number", page_only=True)] if tuned and shots else []
    cells = []
    for row in rows:
        notes = ["lower is better"] if lower_is_better(row.metric) else []
        notes += ["used by the gate"] if row.gated else []
        found: list[Cell | None] = [Cell(row.metric, ", ".join(notes)), _interval(row.before)]
        found += [_interval(row.few_shot)] if shots else []
        found += [_interval(row.after), _interval(row.gain, "+.3f")] if tuned else []
        found += [_interval(row.over_few_shot, "+.3f")] if tuned and shots else []
        cells.append(found)
    return Table(columns, cells)


def _interval(found: Score | Gain | None, form: str = ".3f") -> Cell | None:
    return Cell(f"{found.mean:{form}}", f"{found.low:{form}} to {found.high:{form}}") if found else None


def phase_table(seconds: Mapping[str, float], usd: Mapping[str, float] | None = None) -> Table:
    """Time by phase, and dollars where they are known."""
    whole = sum(seconds.values()) or 1.0
    columns = [Column("phase"), Column("time", "number"), Column("share", "number")]
    columns += [Column("cost", "number")] if usd else []
    columns += [Column("", page_only=True), Column("what it is", "words", page_only=True)]
    return Table(
        columns,
        [
            [
                phase,
                duration(spent),
                f"{spent / whole:.0%}",
                *([dollars(usd[phase])] if usd else []),
                Cell("", share=spent / whole),
                PHASES.get(phase, ""),
            ]
            for phase, spent in seconds.items()
            if spent >= SHOWN_SECONDS
        ],
    )


_ATTEMPT_COLUMNS = [
    Column("attempt", "number"),
    Column("outcome"),
    *(Column(heading, "number") for heading in ("to step", "recomputed", "time", "cost")),
]


def attempt_table(attempts: Sequence[Attempt]) -> Table:
    """The attempts of a ledger."""
    columns = [*_ATTEMPT_COLUMNS, Column("price", "words", page_only=True), Column("machine", "words", page_only=True)]
    rows: list[list[Cell | str]] = []
    for one in attempts:
        start = one.start
        rows.append(
            [
                *_attempt(
                    start.attempt,
                    one.outcome,
                    one.step,
                    one.recomputed_steps,
                    one.seconds_total,
                    one.cost_usd,
                    one.reason,
                ),
                f"{dollars(start.price_usd_per_hour)} an hour ({start.price_source}, {start.price_date})",
                f"{_machine(start.hardware)} on {start.host}, {count(start.workers, 'worker')}",
            ]
        )
    return Table(columns, rows)


def receipt_attempt_table(lines: Sequence[AttemptLine]) -> Table:
    """The attempts of a receipt."""
    rows = [_attempt(a.attempt, a.outcome, a.steps_to, a.recomputed_steps, a.seconds, a.usd) for a in lines]
    return Table(_ATTEMPT_COLUMNS, rows)


def _attempt(
    number: int, outcome: str, step: int, recomputed: int, seconds: float, usd: float, reason: str = ""
) -> list[Cell | str]:
    how = Cell(outcome.replace("_", " "), reason, bad=outcome not in ("finished", "pruned"))
    return [str(number), how, f"{step:,}", f"{recomputed:,}", duration(seconds), dollars(usd)]


def _machine(hardware: Hardware) -> str:
    if not hardware.gpus:
        return f"{hardware.cpu}, {count(hardware.cores, 'core')}"
    return f"{len(hardware.gpus)} x {hardware.gpus[0].name}"


def count(number: int, noun: str) -> str:
    """`1 core`, `2,000 cores`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def plan_table(heading: str, figures: Sequence[Compared]) -> Table:
    """Predicted figures beside measured ones."""
    rows: list[list[str | None]] = []
    for one in figures:
        write = _WRITTEN[one.unit]
        predicted, actual = (None if value is None else write(value) for value in (one.predicted, one.actual))
        ratio = f"x {one.actual / one.predicted:.2f}" if one.predicted and one.actual else None
        rows.append([one.name, predicted, actual, ratio])
    return Table([Column(heading), *(Column(name, "number") for name in ("predicted", "actual", "ratio"))], rows)


def funnel_table(steps: Sequence[Step]) -> Table:
    """What happened to every row; the bars are the rows left."""
    most = max((step.left for step in steps), default=0) or 1
    columns = [Column("rows"), Column("change", "number"), Column("left", "number"), Column("", page_only=True)]
    return Table(
        [*columns, Column("for example", "words")],
        [
            [
                step.stage,
                f"{step.change:+,}" if step.change else "0",
                f"{step.left:,}",
                Cell("", share=step.left / most),
                step.example or None,
            ]
            for step in steps
        ],
    )


def trial_table(result: SearchResult) -> Table:
    """All trials of a search."""
    columns = [
        *(Column(name, "number") for name in ("trial", "rank", "lr")),
        Column("outcome"),
        *(Column(name, "number") for name in ("steps", "hold-out loss", "cost")),
        Column("run", "code", page_only=True),
    ]
    return Table(
        columns,
        [
            [
                *_trial(line),
                Cell(line.outcome.replace("_", " "), line.reason, bad=line.outcome == "failed"),
                f"{line.step:,}",
                _number(line.holdout_loss),
                dollars(line.cost_usd),
                line.run_id,
            ]
            for line in result.trials
        ],
    )


def measured_trial_table(result: SearchResult) -> Table:
    """The trials that were measured on the gate's metric, and which of them was chosen."""
    columns = [
        *(Column(name, "number") for name in ("trial", "rank", "lr")),
        Column(result.metric, "number", detailed=True),
        Column("drift", "number"),
        Column(""),
    ]
    return Table(
        columns,
        [
            [*_trial(line), _interval(line.score), _number(line.mean_kl), _mark(result, line.number)]
            for line in result.trials
            if line.score is not None
        ],
    )


def _trial(line: TrialLine) -> list[str]:
    return [str(line.number), str(line.rank), f"{line.learning_rate:g}"]


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def _mark(result: SearchResult, number: int) -> str:
    marks = [
        "chosen" if number == result.chosen else "",
        "best" if number == result.best else "",
        "equal" if number in result.equals and number not in (result.best, result.chosen) else "",
        "drifted too far" if number in result.too_far else "",
    ]
    return ", ".join(mark for mark in marks if mark)
