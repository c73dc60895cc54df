"""What runs cost: attempts of the ledger summed by run, label or user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Literal

from cluster.billing.ledger import Attempt, Outcome, Phase, read_ledgers
from cluster.store.records import run_path
from cluster.store.runs import SILENT_AFTER, RunFolder, RunHead, State, head_of, started_at, state_of
from cluster.store.storage import Store
from runspec.errors import StoreError
from runspec.strict import Strict

FAILED = ("failed", "worker_lost", "lost")
"""Outcomes of attempts that failed."""
WORDS = ("name", "user")
"""What runs can be grouped by, apart from labels: the run file's name, and who started the attempt."""


class Spending(Strict):
    """The sum over some attempts."""

    attempts: int
    seconds: float
    tokens: int
    """Trained on, including those of recomputed steps."""
    usd: float
    """All seconds at the price of their attempt, including failures."""
    failed_usd: float
    """The part of it in attempts that failed, or whose workers or driver were lost."""
    recomputed_usd: float
    """The part of it in steps that an earlier attempt had already done; overlaps with `failed_usd`."""
    usd_per_million_tokens: float | None
    """Null where nothing was trained."""


class AttemptCost(Strict):
    """One attempt."""

    run_id: str
    attempt: int
    outcome: Outcome | Literal["lost", "running"]
    user: str
    host: str
    workers: int
    started_at: datetime
    price_usd_per_hour: float
    price_source: str
    price_date: date
    budget_usd: float | None
    step: int
    recomputed_steps: int
    tokens: int
    seconds: float
    seconds_by_phase: dict[Phase, float]
    usd: float


class RunCost(Strict):
    """One run."""

    run_id: str
    name: str
    """The run file's."""
    labels: dict[str, str]
    user: str | None
    """Who started its first attempt; null before there is one."""
    state: State
    started_at: datetime | None
    spending: Spending


class GroupCost(Strict):
    """The runs that share a label's value, a name or a user."""

    value: str | None
    """Null: the runs without the label."""
    runs: int
    spending: Spending


@dataclass(frozen=True)
class BilledRun:
    """A run and its attempts.

    Attributes:
        head: name and labels, from its spec.
        finished: whether it has a receipt.
        attempts: in order; only those within the range of days, where one was given.
    """

    run_id: str
    head: RunHead
    finished: bool
    attempts: tuple[Attempt, ...]


def read_runs(store: Store, run_ids: Sequence[str] | None = None) -> tuple[list[BilledRun], list[StoreError]]:
    """The runs of a store and their attempts, in two rounds of reads however many there are.

    Args:
        run_ids: only these; None reads all.

    Returns:
        The runs, the newest first, and the errors of damaged runs, which are left out.
    """
    folders = ["runs"] if run_ids is None else [run_path(run_id) for run_id in run_ids]
    paths = [path for folder in folders for path in store.walk(folder)]
    there = set(paths)
    runs = [
        RunFolder(store, path.split("/")[1]) for path in paths if path.count("/") == 2 and path.endswith("/spec.json")
    ]
    ledgers, specs = read_ledgers(store, paths), store.read_many([run.spec.path for run in runs])
    billed, damaged = [], []
    for run in runs:
        ledger = ledgers.get(run.attempts_path, [])
        if isinstance(ledger, StoreError):
            damaged.append(ledger)
            continue
        try:
            head = head_of(run, specs[run.spec.path])
        except StoreError as error:
            damaged.append(error)
            continue
        billed.append(BilledRun(run.run_id, head, run.receipt_path in there, tuple(ledger)))
    return sorted(billed, key=lambda run: (_began(run), run.run_id), reverse=True), damaged


def _began(run: BilledRun) -> datetime:
    return started_at(run.run_id, run.attempts) or datetime.min.replace(tzinfo=UTC)


def with_labels(runs: Iterable[BilledRun], labels: Mapping[str, str]) -> list[BilledRun]:
    return [run for run in runs if labels.items() <= run.head.labels.items()]


def within(runs: Iterable[BilledRun], since: date | None, until: date | None) -> list[BilledRun]:
    """The attempts that began between two days (UTC, both included), and the runs that have any."""
    if since is None and until is None:
        return list(runs)
    first, last = since or date.min, until or date.max
    kept = [replace(run, attempts=tuple(one for one in run.attempts if first <= _day(one) <= last)) for run in runs]
    return [run for run in kept if run.attempts]


def _day(attempt: Attempt) -> date:
    return attempt.start.started_at.astimezone(UTC).date()


def spending(attempts: Iterable[Attempt], now: datetime) -> Spending:
    attempts = list(attempts)
    usd, tokens = sum(one.cost_usd for one in attempts), sum(one.tokens for one in attempts)
    return Spending(
        attempts=len(attempts),
        seconds=sum(one.seconds_total for one in attempts),
        tokens=tokens,
        usd=usd,
        failed_usd=sum(one.cost_usd for one in attempts if outcome_of(one, now) in FAILED),
        recomputed_usd=sum(one.usd_of(one.seconds.get("recomputed", 0.0)) for one in attempts),
        usd_per_million_tokens=usd / tokens * 1e6 if tokens else None,
    )


def outcome_of(attempt: Attempt, now: datetime) -> Outcome | Literal["lost", "running"]:
    """How an attempt ended; one whose driver wrote lately is still running."""
    if attempt.end is None and now - attempt.last_at < SILENT_AFTER:
        return "running"
    return attempt.outcome


def run_cost(run: BilledRun, now: datetime) -> RunCost:
    return RunCost(
        run_id=run.run_id,
        name=run.head.name,
        labels=run.head.labels,
        user=run.attempts[0].start.user if run.attempts else None,
        state="finished" if run.finished else state_of(run.attempts, now),
        started_at=started_at(run.run_id, run.attempts),
        spending=spending(run.attempts, now),
    )


def attempt_costs(run: BilledRun, now: datetime) -> list[AttemptCost]:
    return [
        AttemptCost(
            run_id=run.run_id,
            attempt=one.start.attempt,
            outcome=outcome_of(one, now),
            **one.start.model_dump(
                include={"user", "host", "workers", "started_at", "budget_usd", "price_usd_per_hour"}
                | {"price_source", "price_date"}
            ),
            step=one.step,
            recomputed_steps=one.recomputed_steps,
            tokens=one.tokens,
            seconds=one.seconds_total,
            seconds_by_phase=dict(one.seconds),
            usd=one.cost_usd,
        )
        for one in run.attempts
    ]


def grouped(runs: Iterable[BilledRun], word: str, now: datetime) -> list[GroupCost]:
    """Runs by a label or by one of `WORDS`, the dearest group first. By user, each attempt counts for its own."""
    groups: dict[str | None, list[BilledRun]] = {}
    for run in runs:
        for value, part in _parts(run, word):
            groups.setdefault(value, []).append(part)
    costs = [
        GroupCost(value=value, runs=len(parts), spending=spending((one for run in parts for one in run.attempts), now))
        for value, parts in groups.items()
    ]
    return sorted(costs, key=lambda group: (-group.spending.usd, group.value or ""))


def _parts(run: BilledRun, word: str) -> list[tuple[str | None, BilledRun]]:
    """A run by the groups it belongs to: several where several users made attempts."""
    if word != "user":
        return [(run.head.name if word == "name" else run.head.labels.get(word), run)]
    users = dict.fromkeys(one.start.user for one in run.attempts)
    return [
        (user, replace(run, attempts=tuple(one for one in run.attempts if one.start.user == user))) for user in users
    ]
