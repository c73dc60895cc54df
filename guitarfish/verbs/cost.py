"""`guitarfish cost`: what runs cost, failed attempts included, by run, label or user; and what serving cost."""

from __future__ import annotations

import csv as csv_format
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from difflib import get_close_matches
from typing import Annotated, Any, get_args

import typer

from cluster.billing.ledger import Phase, by_phase
from cluster.billing.spending import (
    WORDS,
    AttemptCost,
    BilledRun,
    Spending,
    attempt_costs,
    grouped,
    read_runs,
    run_cost,
    spending,
    with_labels,
    within,
)
from cluster.billing.usage import ModelUsage, read_usage, usage_by_model
from cluster.store.runs import find_run
from cluster.store.storage import Store, open_store
from guitarfish.show.rendering import dollars, duration, note, print_json, print_table, say, warn
from guitarfish.show.tables import SHOWN_SECONDS
from guitarfish.verbs.options import DEFAULT_STORE, AsJson, StoreUri
from runspec.errors import UserError
from tuning.records import SearchFolder, runs_of

FIGURES = tuple(Spending.model_fields)
PHASES: tuple[Phase, ...] = get_args(Phase)
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Spreadsheets evaluate a text that starts with one of these when they open the file (OWASP: CSV injection)."""


@dataclass(frozen=True)
class Asked:
    """What the command line asks of a bill over all runs.

    Attributes:
        labels: that a run must have.
        by: a label or one of `cluster.billing.spending.WORDS` to group by; None lists runs.
        since, until: days between which an attempt began.
        form: how it is printed: table, json or csv.
    """

    labels: dict[str, str]
    by: str | None
    since: date | None
    until: date | None
    form: str

    @property
    def options(self) -> list[str]:
        """The options that were given to select or group."""
        given = {"--label": self.labels, "--by": self.by is not None, "--since": self.since, "--until": self.until}
        return [option for option, value in given.items() if value]


def cost(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="A run's id, or its beginning. By default: all runs.", show_default=False),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="KEY=VALUE", help="Only runs with this label. May be repeated."),
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="KEY", help="One line for each value of a label, `user` or `name`.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DATE", help="Only attempts that began on this day (UTC) or later.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="DATE", help="Only attempts that began on this day or before.")
    ] = None,
    serving: Annotated[bool, typer.Option("--serving", help="Show what serving cost, by adapter version.")] = False,
    store: StoreUri = DEFAULT_STORE,
    json: AsJson = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV to stdout, for spreadsheets.")] = False,
) -> None:
    """Show what a run or all runs cost, from the ledger; failed attempts count too."""
    asked = _asked(label or [], by, since, until, json=json, csv=csv)
    opened = open_store(store)
    if serving:
        _serving(opened, run, asked)
    elif run is not None:
        _one_run(opened, run, asked)
    else:
        _all_runs(opened, asked)


def _asked(labels: list[str], by: str | None, since: str | None, until: str | None, *, json: bool, csv: bool) -> Asked:
    if json and csv:
        raise UserError("--json and --csv exclude each other.", where="--json --csv", fix="Choose one of them.")
    first, last = _date("--since", since), _date("--until", until)
    if first and last and first > last:
        where = f"--since {first} --until {last}"
        raise UserError(f"--since {first} is after --until {last}.", where=where, fix="Swap --since and --until.")
    if by == "":
        raise UserError("--by is empty.", where="--by", fix="Name a label, as in --by team, or user, or name.")
    return Asked(_labels(labels), by, first, last, "json" if json else "csv" if csv else "table")


def _date(option: str, text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        fix = "Write it as YYYY-MM-DD, as in 2026-11-01."
        raise UserError(f"`{text}` is not a date.", where=f"{option} {text}", fix=fix) from error


def _labels(texts: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            fix = "Write it as KEY=VALUE, as in --label team=search."
            raise UserError(f"`{text}` is not a label.", where=f"--label {text}", fix=fix)
        if found.setdefault(key, value) != value:
            raise UserError(
                f"No run can have the label `{key}` twice: `{found[key]}` and `{value}`.",
                where=f"--label {text}",
                fix=f"Choose one of the two, or group with --by {key}.",
            )
    return found


def _exclude(options: list[str], why: str) -> None:
    if options:
        raise UserError(f"{' and '.join(options)} {why}.", where=" ".join(options), fix="Use only one of them.")


def _one_run(store: Store, run: str, asked: Asked) -> None:
    """The attempts of a run, and for a search those of its trials too."""
    _exclude(asked.options, f"cannot be used with one run, {run}")
    run_id, now = find_run(store, run), datetime.now(UTC)
    is_search = SearchFolder(store, run_id).search.exists()
    runs, damaged = read_runs(store, runs_of(store, run_id) if is_search else [run_id])
    if damaged:
        raise damaged[0]
    runs.sort(key=lambda one: one.run_id)
    lines = [line for one in runs for line in attempt_costs(one, now)]
    attempts = [attempt for one in runs for attempt in one.attempts]
    total, phases = spending(attempts, now), sorted(by_phase(attempts), key=lambda one: -one.usd)
    if asked.form == "json":
        labels = next((one.head.labels for one in runs if one.run_id == run_id), {})
        print_json({"run_id": run_id, "labels": labels, "attempts": lines, "phases": phases, "total": total})
    elif asked.form == "csv":
        plain = [name for name in AttemptCost.model_fields if name != "seconds_by_phase"]
        rows = [
            [*(getattr(line, name) for name in plain), *(line.seconds_by_phase.get(phase, 0.0) for phase in PHASES)]
            for line in lines
        ]
        print_csv([*plain, *(f"seconds_{phase}" for phase in PHASES)], rows)
    else:
        say(f"{run_id}: {_in_words(total)}")
        say("")
        _attempts_table(lines, several=len(runs) > 1)
        prices = [(line.price_usd_per_hour, line.price_source, line.price_date) for line in lines]
        for usd, source, seen in dict.fromkeys(prices):
            say(f"  at {dollars(usd)} an hour: {source}, {seen}")
        say("")
        shown = [one for one in phases if one.seconds >= SHOWN_SECONDS]
        table = [[one.phase, duration(one.seconds), dollars(one.usd), _share(one.usd, total.usd)] for one in shown]
        print_table(["phase", "time", "cost", "share"], table, right="time cost share")


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


def _all_runs(store: Store, asked: Asked) -> None:
    every, damaged = read_runs(store)
    for error in damaged:
        warn(f"left out: {error.what} ({error.where})")
    _check_keys(store, every, asked)
    now = datetime.now(UTC)
    runs = within(with_labels(every, asked.labels), asked.since, asked.until)
    if not runs:
        note("no runs match" if every else f"{store.uri} has no runs")
    total = spending((attempt for run in runs for attempt in run.attempts), now)
    more = {"total": total, "left_out": {error.where: error.what for error in damaged}}
    if asked.by is None:
        _list_runs(runs, asked.form, more, now)
    else:
        _list_groups(runs, asked.by, asked.form, more, now)
    if runs and asked.form == "table":
        say("")
        say(f"{_count(len(runs), 'run')}: {_in_words(total)}")


def _list_runs(runs: Sequence[BilledRun], form: str, more: dict[str, Any], now: datetime) -> None:
    costs = [run_cost(run, now) for run in runs]
    if form == "json":
        print_json({"runs": costs, **more})
    elif form == "csv":
        keys = sorted({key for cost in costs for key in cost.labels})
        print_csv(
            ["run_id", "name", "user", "state", "started_at", *(f"label:{key}" for key in keys), *FIGURES],
            [
                [cost.run_id, cost.name, cost.user, cost.state, cost.started_at]
                + [cost.labels.get(key) for key in keys]
                + _figures(cost.spending)
                for cost in costs
            ],
        )
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


def _list_groups(runs: Sequence[BilledRun], by: str, form: str, more: dict[str, Any], now: datetime) -> None:
    groups = grouped(runs, by, now)
    if form == "json":
        print_json({"by": by, "groups": groups, **more})
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
                _share(group.spending.usd, more["total"].usd),
            )
            for group in groups
        ]
        headings = [by, "runs", "attempts", "time", "failed", "cost", "share"]
        print_table(headings, rows, right="runs attempts time failed cost share")


def _check_keys(store: Store, runs: list[BilledRun], asked: Asked) -> None:
    """Raises UserError for a label that no run has: it is a typo."""
    if not runs:
        return
    labels = sorted({key for run in runs for key in run.head.labels})
    named = [(key, f"--label {key}", labels) for key in asked.labels]
    if asked.by is not None:
        named.append((asked.by, f"--by {asked.by}", [*labels, *WORDS]))
    for key, option, allowed in named:
        if key in allowed:
            continue
        near = get_close_matches(key, allowed, 1, 0.5)
        fix = f"Did you mean `{near[0]}`? " if near else ""
        fix += (
            f"Existing labels: {', '.join(labels)}." if labels else "Set labels in run files: labels: {team: search}."
        )
        raise UserError(f"No run in {store.uri} has the label `{key}`.", where=option, fix=fix)


def _serving(store: Store, run: str | None, asked: Asked) -> None:
    others = [option for option in asked.options if option in ("--label", "--by")]
    _exclude([*([f"RUN {run}"] if run else []), *others], "cannot be used with --serving, which is about servers")
    first, last = asked.since or date.min, asked.until or date.max
    records = [one for one in read_usage(store) if first <= one.started_at.astimezone(UTC).date() <= last]
    if not records:
        note(f"{store.uri} has no serving records" + (" for those days" if asked.since or asked.until else ""))
    models = usage_by_model(records)
    total = sum(model.usd for model in models)
    if asked.form == "json":
        print_json({"models": models, "total_usd": total})
    elif asked.form == "csv":
        names = [field.name for field in fields(ModelUsage)]
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
        headings = ["model", "requests", "prompt", "completion", "per request", "cost", "per 1M tokens"]
        print_table(headings, rows, right="requests prompt completion cost")
        say("")
        say(f"serving cost {dollars(total)}")


def _figures(total: Spending) -> list[Any]:
    return [getattr(total, name) for name in FIGURES]


def _in_words(total: Spending) -> str:
    text = f"{dollars(total.usd)} in {_count(total.attempts, 'attempt')}"
    if total.usd_per_million_tokens is not None:
        text += f", {dollars(total.usd_per_million_tokens)} per 1M trained tokens"
    if total.failed_usd:
        share = _share(total.failed_usd, total.usd)
        text += f"; {dollars(total.failed_usd)} ({share}) in attempts that failed or were lost"
    if total.recomputed_usd:
        share = _share(total.recomputed_usd, total.usd)
        text += f"; {dollars(total.recomputed_usd)} ({share}) in recomputed steps"
    return text


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "-"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print CSV to stdout. None is an empty cell, a time is ISO 8601, and no cell is a formula to a spreadsheet."""
    writer = csv_format.writer(sys.stdout, lineterminator="\n")
    writer.writerows([_cell(value) for value in row] for row in (columns, *rows))


def _cell(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value
