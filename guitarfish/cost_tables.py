"""Bills as people and programs read them: tables, JSON, CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, get_args

from cluster.ledger import Phase
from cluster.spending import (
    AttemptCost,
    BilledRun,
    GroupCost,
    RunCost,
    Spending,
    attempt_costs,
    by_phase,
    run_cost,
    spending,
)
from cluster.usage import ModelUsage
from guitarfish.rendering import dollars, duration, print_json, print_table, say
from guitarfish.spreadsheet import print_csv

FIGURES = tuple(Spending.model_fields)
PHASES: tuple[Phase, ...] = get_args(Phase)
SHOWN_SECONDS = 0.05
"""Phases that took less are left out of tables."""


def show_attempts(run_id: str, runs: Sequence[BilledRun], form: str, now: datetime) -> None:
    """Print the attempts of a run, or of a search and its trials."""
    lines = [line for run in runs for line in attempt_costs(run, now)]
    attempts = [attempt for run in runs for attempt in run.attempts]
    total, phases = spending(attempts, now), by_phase(attempts)
    if form == "json":
        labels = next((run.head.labels for run in runs if run.run_id == run_id), {})
        print_json({"run_id": run_id, "labels": labels, "attempts": lines, "phases": phases, "total": total})
    elif form == "csv":
        plain = [name for name in AttemptCost.model_fields if name != "seconds_by_phase"]
        columns = [*plain, *(f"seconds_{phase}" for phase in PHASES)]
        print_csv(columns, [[getattr(line, name) for name in plain] + _phases(line) for line in lines])
    else:
        say(f"{run_id}: {_in_words(total)}")
        say("")
        _attempts_table(lines, several=len(runs) > 1)
        for price in dict.fromkeys(_price(line) for line in lines):
            say(price)
        say("")
        shown = [phase for phase in phases if phase.seconds >= SHOWN_SECONDS]
        rows = [(one.phase, duration(one.seconds), dollars(one.usd), _share(one.usd, total.usd)) for one in shown]
        print_table(["phase", "time", "cost", "share"], rows, right="time cost share")


def _phases(line: AttemptCost) -> list[float]:
    return [line.seconds_by_phase.get(phase, 0.0) for phase in PHASES]


def _attempts_table(lines: Sequence[AttemptCost], *, several: bool) -> None:
    headings = ["attempt", "outcome", "to step", "time", "trained", "tokens", "cost"]
    rows: list[list[Any]] = [
        [
            line.attempt,
            line.outcome,
            line.step,
            duration(line.seconds),
            duration(line.seconds_by_phase.get("training", 0.0)),
            f"{line.tokens:,}",
            dollars(line.usd),
        ]
        for line in lines
    ]
    if several:
        headings.insert(0, "run")
        rows = [[line.run_id, *row] for line, row in zip(lines, rows, strict=True)]
    print_table(headings, rows, right="attempt time trained tokens cost")


def _price(line: AttemptCost) -> str:
    return f"  at {dollars(line.price_usd_per_hour)} an hour: {line.price_source}, {line.price_date}"


def show_runs(runs: Sequence[BilledRun], left_out: dict[str, str], form: str, now: datetime) -> None:
    """Print one line a run, and the sum."""
    costs = [run_cost(run, now) for run in runs]
    total = _total(runs, now)
    if form == "json":
        print_json({"runs": costs, "total": total, "left_out": left_out})
    elif form == "csv":
        _runs_csv(costs)
    elif costs:
        headings = ["run", "state", "labels", "attempts", "time", "failed", "cost"]
        rows = [
            (
                cost.run_id,
                cost.state,
                " ".join(f"{key}={value}" for key, value in cost.labels.items()) or None,
                cost.spending.attempts,
                duration(cost.spending.seconds),
                dollars(cost.spending.failed_usd) if cost.spending.failed_usd else None,
                dollars(cost.spending.usd),
            )
            for cost in costs
        ]
        print_table(headings, rows, right="attempts time failed cost")
        say("")
        say(f"{_count(len(costs), 'run')}: {_in_words(total)}")


def _runs_csv(costs: Sequence[RunCost]) -> None:
    keys = sorted({key for cost in costs for key in cost.labels})
    columns = ["run_id", "name", "user", "state", "started_at", *(f"label:{key}" for key in keys), *FIGURES]
    print_csv(
        columns,
        [
            [cost.run_id, cost.name, cost.user, cost.state, cost.started_at]
            + [cost.labels.get(key) for key in keys]
            + _figures(cost.spending)
            for cost in costs
        ],
    )


def show_groups(
    by: str,
    groups: Sequence[GroupCost],
    runs: Sequence[BilledRun],
    left_out: dict[str, str],
    form: str,
    now: datetime,
) -> None:
    """Print one line for each value of what the runs are grouped by, and the sum."""
    total = _total(runs, now)
    if form == "json":
        print_json({"by": by, "groups": groups, "total": total, "left_out": left_out})
    elif form == "csv":
        print_csv([by, "runs", *FIGURES], [[group.value, group.runs, *_figures(group.spending)] for group in groups])
    elif groups:
        rows = [
            (
                group.value,
                group.runs,
                group.spending.attempts,
                duration(group.spending.seconds),
                dollars(group.spending.failed_usd) if group.spending.failed_usd else None,
                dollars(group.spending.usd),
                _share(group.spending.usd, total.usd),
            )
            for group in groups
        ]
        headings = [by, "runs", "attempts", "time", "failed", "cost", "share"]
        print_table(headings, rows, right="runs attempts time failed cost share")
        say("")
        say(f"{_count(len(runs), 'run')}: {_in_words(total)}")


def show_serving(models: Sequence[ModelUsage], form: str) -> None:
    """Print what each served model was used for and cost."""
    total = sum(model.usd for model in models)
    names = [field.name for field in fields(ModelUsage)]
    if form == "json":
        print_json({"models": models, "total_usd": total})
    elif form == "csv":
        print_csv(names, [[getattr(model, name) for name in names] for model in models])
    elif models:
        rows = [
            (
                model.model,
                model.requests,
                f"{model.prompt_tokens:,}",
                f"{model.completion_tokens:,}",
                duration(model.mean_seconds),
                dollars(model.usd),
                dollars(model.usd_per_million_tokens),
            )
            for model in models
        ]
        headings = ["model", "requests", "prompt", "completion", "a request", "cost", "a million"]
        print_table(headings, rows, right="requests prompt completion cost")
        say("")
        say(f"serving cost {dollars(total)}")


def _total(runs: Sequence[BilledRun], now: datetime) -> Spending:
    return spending((attempt for run in runs for attempt in run.attempts), now)


def _figures(total: Spending) -> list[Any]:
    return [getattr(total, name) for name in FIGURES]


def _in_words(total: Spending) -> str:
    """The sum, and how much of it went into failures."""
    text = f"{dollars(total.usd)} in {_count(total.attempts, 'attempt')}"
    if total.usd_per_million_tokens is not None:
        text += f", {dollars(total.usd_per_million_tokens)} a million trained tokens"
    if total.failed_usd:
        share = _share(total.failed_usd, total.usd)
        text += f"; {dollars(total.failed_usd)} ({share}) in attempts that failed or were lost"
    if total.recomputed_usd:
        share = _share(total.recomputed_usd, total.usd)
        text += f"; {dollars(total.recomputed_usd)} ({share}) in steps computed again"
    return text


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "-"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
