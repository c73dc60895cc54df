"""`guitarfish cost`: what runs cost, failed attempts included, by run, by label or by user; and what serving cost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from guitarfish.options import DEFAULT_STORE, AsJson, StoreUri
from guitarfish.rendering import note, warn
from runspec.errors import UserError

if TYPE_CHECKING:
    from cluster.spending import BilledRun
    from cluster.storage import Store


@dataclass(frozen=True)
class Asked:
    """What the command line asks of a bill over all runs.

    Attributes:
        labels: that a run must have.
        by: a label or one of `cluster.spending.WORDS` to group by; None lists runs.
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
        """The options that select or group, as they were given."""
        given = {"--label": self.labels, "--by": self.by is not None, "--since": self.since, "--until": self.until}
        return [option for option, value in given.items() if value]


def cost(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="A run's id, or its beginning. Without it: all runs.", show_default=False),
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
    serving: Annotated[bool, typer.Option("--serving", help="What serving cost, by adapter version.")] = False,
    store: StoreUri = DEFAULT_STORE,
    json: AsJson = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV to stdout, for spreadsheets.")] = False,
) -> None:
    """Show what a run cost, or all runs, from the ledger: attempts that failed are counted too."""
    from cluster.storage import open_store

    asked = _asked(label or [], by, since, until, json=json, csv=csv)
    opened = open_store(store)
    if serving:
        _serving(opened, run, asked)
    elif run is not None:
        _one(opened, run, asked)
    else:
        _all(opened, asked)


def _asked(labels: list[str], by: str | None, since: str | None, until: str | None, *, json: bool, csv: bool) -> Asked:
    if json and csv:
        raise UserError("--json and --csv are two forms.", where="--json --csv", fix="Name one of the two.")
    first, last = _date("--since", since), _date("--until", until)
    if first and last and first > last:
        raise UserError(
            f"--since {first} is after --until {last}: no attempt began then.",
            where=f"--since {first} --until {last}",
            fix="Exchange the two.",
        )
    if by == "":
        raise UserError("--by names nothing.", where="--by", fix="Name a label, as in --by team, or user, or name.")
    return Asked(_labels(labels), by, first, last, "json" if json else "csv" if csv else "table")


def _date(option: str, text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise UserError(
            f"{text!r} is no day.", where=f"{option} {text}", fix="Write it as YYYY-MM-DD, as in 2026-11-01."
        ) from error


def _labels(texts: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            fix = "Write it as KEY=VALUE, as in --label team=search."
            raise UserError(f"{text!r} is no label.", where=f"--label {text}", fix=fix)
        if found.setdefault(key, value) != value:
            raise UserError(
                f"No run has the label {key!r} twice: {found[key]!r} and {value!r}.",
                where=f"--label {text}",
                fix=f"Name one of the two, or group with --by {key}.",
            )
    return found


def _one(store: Store, run: str, asked: Asked) -> None:
    """The attempts of a run; of a search those of its trials too."""
    from cluster.runs import RunFolder, find_run
    from cluster.spending import read_runs
    from guitarfish.cost_tables import show_attempts
    from tuning.records import SEARCH, runs_of

    _refuse(asked.options, f"select among all runs, but one run is named: {run}")
    run_id = find_run(store, run)
    is_search = store.exists(RunFolder(store, run_id).path(SEARCH))
    runs, damaged = read_runs(store, runs_of(store, run_id) if is_search else [run_id])
    if damaged:
        raise damaged[0]
    show_attempts(run_id, sorted(runs, key=lambda run: run.run_id), asked.form, datetime.now(UTC))


def _all(store: Store, asked: Asked) -> None:
    from cluster.spending import grouped, read_runs, with_labels, within
    from guitarfish.cost_tables import show_groups, show_runs

    every, damaged = read_runs(store)
    for error in damaged:
        warn(f"left out: {error.what} ({error.where})")
    _check_keys(store, every, asked)
    now = datetime.now(UTC)
    runs = within(with_labels(every, asked.labels), asked.since, asked.until)
    if not runs:
        note("no run is of this kind" if every else f"{store.uri} has no runs")
    left_out = {error.where: error.what for error in damaged}
    if asked.by is None:
        show_runs(runs, left_out, asked.form, now)
    else:
        show_groups(asked.by, grouped(runs, asked.by, now), runs, left_out, asked.form, now)


def _check_keys(store: Store, runs: list[BilledRun], asked: Asked) -> None:
    """See that the labels that were named are those of some run; of none they are a slip of the keyboard."""
    from cluster.spending import WORDS

    if not runs:
        return
    known = sorted({key for run in runs for key in run.head.labels})
    for key in asked.labels:
        _check_key(store, key, f"--label {key}", known, known)
    if asked.by is not None:
        _check_key(store, asked.by, f"--by {asked.by}", known, [*known, *WORDS])


def _check_key(store: Store, key: str, option: str, labels: list[str], allowed: list[str]) -> None:
    if key in allowed:
        return
    near = get_close_matches(key, allowed, 1, 0.5)
    fix = f"Did you mean {near[0]}? " if near else ""
    have = f"Labels there are: {', '.join(labels)}." if labels else "Run files give them: labels: {team: search}."
    raise UserError(f"No run of {store.uri} has the label {key!r}.", where=option, fix=fix + have)


def _serving(store: Store, run: str | None, asked: Asked) -> None:
    from cluster.usage import read_usage, usage_by_model
    from guitarfish.cost_tables import show_serving

    others = [option for option in asked.options if option in ("--label", "--by")]
    _refuse([*([f"RUN {run}"] if run else []), *others], "concern runs, but --serving is about servers")
    first, last = asked.since or date.min, asked.until or date.max
    records = [one for one in read_usage(store) if first <= one.started_at.astimezone(UTC).date() <= last]
    if not records:
        note(f"{store.uri} has no records of serving" + (" of those days" if asked.since or asked.until else ""))
    show_serving(usage_by_model(records), asked.form)


def _refuse(options: list[str], why: str) -> None:
    if options:
        raise UserError(f"{' and '.join(options)} {why}.", where=" ".join(options), fix="Leave out one or the other.")
