"""The runs of a store: their names, their folders and their states."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from cluster.billing.ledger import Attempt, Ledger, Outcome, read_attempts, total_cost
from cluster.store.records import Record, T, parse_record, read_together, run_path
from cluster.store.storage import Store
from runspec.errors import StoreError
from runspec.run import RunSpec
from runspec.strict import Strict

RunKind = Literal["train", "evaluate", "pairs", "search", "trial"]
"""What a run does: the verb that made it; `search` and `trial` are both of `guitarfish tune`."""
State = Literal["new", "running", "lost"] | Outcome
RECEIPT, PUBLICATION = "receipt.json", "publication.json"
SILENT_AFTER = timedelta(minutes=5)
"""An attempt that has written nothing for this long counts as lost; drivers write progress every 20 seconds."""


class RunSummary(Strict):
    """One line of `guitarfish runs`."""

    run_id: str
    state: State
    """`finished` once there is a receipt, else the state of the last attempt; `new` before the first."""
    published: bool
    started_at: datetime | None
    attempts: int
    step: int
    """The optimiser step reached."""
    hours: float
    cost_usd: float


class KindRecord(Strict):
    """kind.json of a run, written when it is put into its store."""

    kind: RunKind


class RunHead(BaseModel):
    """The part of a run's spec that bills and lists need; other keys may be from another version."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    """The run file's."""
    labels: dict[str, str] = {}


class RunFolder:
    """The folder of a run, as lists, bills and jobs need it. The records of stages: `training.run.run_folder`."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store, self.run_id = store, run_id
        self._records: list[Record[Any]] = []
        self.spec = self.record("spec.json", RunSpec)
        """The resolved run file."""
        self.kind = self.record("kind.json", KindRecord)
        """What the run does; runs of earlier versions have none."""

    def path(self, name: str = "") -> str:
        return run_path(self.run_id, name)

    @property
    def where(self) -> str:
        return f"{self.store.uri}/{self.path()}"

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.store, self.run_id)

    @property
    def attempts_path(self) -> str:
        return self.path("attempts")

    @property
    def receipt_path(self) -> str:
        """Written when the run has finished."""
        return self.path(RECEIPT)

    @property
    def publication_path(self) -> str:
        """Written when the adapter is in the registry."""
        return self.path(PUBLICATION)

    def record(self, name: str, model: type[T]) -> Record[T]:
        made = Record(self.store, self.path(name), model)
        self._records.append(made)
        return made

    def read_all(self) -> None:
        """Read all records that are there, in one listing and one round of reads.

        Raises:
            StoreError: one of them is damaged.
        """
        there = set(self.store.walk(self.path()))
        read_together(self.store, [record for record in self._records if record.path in there])


def new_run_id(name: str) -> str:
    """`name-YYYYMMDD-HHMMSS-xxxx`, in UTC, with four random hex digits."""
    return f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def run_ids(store: Store) -> list[str]:
    """All runs that have a folder, by name."""
    return store.list("runs")


def find_run(store: Store, text: str) -> str:
    """The run with this id, or the only one whose id begins so.

    Raises:
        StoreError: there is none, or there are several; the message names some.
    """
    known = run_ids(store)
    matching = [run_id for run_id in known if run_id.startswith(text)] if text else []
    if text not in known and len(matching) != 1:
        raise _no_such_run(store, text, matching, known)
    run_id = text if text in known else matching[0]
    folder = RunFolder(store, run_id)
    if not folder.spec.exists():
        fix = "It was stopped before it began: start it again from its run file."
        raise StoreError(f"Run {run_id} has no spec.json.", where=folder.where, fix=fix)
    return run_id


def _no_such_run(store: Store, text: str, matching: Sequence[str], known: Sequence[str]) -> StoreError:
    where = f"{store.uri}/runs"
    if matching:
        fix = f"Name one of them: {', '.join(matching[-5:])}."
        return StoreError(f"{len(matching)} runs begin with {text!r}.", where=where, fix=fix)
    near = get_close_matches(text, known, 3, 0.5) or sorted(known, key=_started_text)[-3:]
    fix = f"Did you mean {' or '.join(near)}?" if near else "This store has no runs: name another with --store."
    return StoreError(f"No run named {text!r}.", where=where, fix=fix)


def _started_text(run_id: str) -> str:
    return "-".join(run_id.split("-")[-3:-1])


def head_of(run: RunFolder, spec: bytes) -> RunHead:
    """Name and labels, from the content of a run's spec.json. Raises StoreError where it is damaged."""
    return parse_record(run.store, run.spec.path, spec, RunHead)


def list_runs(store: Store) -> list[RunSummary]:
    """All runs, the newest first. One listing and one round of reads, however many there are."""
    paths = store.walk("runs")
    ledgers = read_attempts(store, paths)
    there = set(paths)
    runs = {path.split("/")[1] for path in paths if path.count("/") == 2 and path.endswith("/spec.json")}
    summaries = [_summary(RunFolder(store, run_id), ledgers, there) for run_id in runs]
    return sorted(summaries, key=lambda run: (run.started_at or _NEVER, run.run_id), reverse=True)


_NEVER = datetime.min.replace(tzinfo=UTC)


def _summary(run: RunFolder, ledgers: dict[str, list[Attempt]], there: set[str]) -> RunSummary:
    attempts = ledgers.get(run.attempts_path, [])
    cost = total_cost(attempts)
    return RunSummary(
        run_id=run.run_id,
        state="finished" if run.receipt_path in there else state_of(attempts, datetime.now(UTC)),
        published=run.publication_path in there,
        started_at=started_at(run.run_id, attempts),
        attempts=len(attempts),
        step=max((attempt.step for attempt in attempts), default=0),
        hours=cost.hours,
        cost_usd=cost.usd,
    )


def state_of(attempts: Sequence[Attempt], now: datetime) -> State:
    """The state of a run without a receipt, by its last attempt."""
    if not attempts:
        return "new"
    last = attempts[-1]
    if last.end is not None:
        return last.end.outcome
    return "running" if now - last.last_at < SILENT_AFTER else "lost"


def started_at(run_id: str, attempts: Sequence[Attempt]) -> datetime | None:
    """When its first attempt began, else the time in its id; None where it has neither."""
    return attempts[0].start.started_at if attempts else _time_in(run_id)


def _time_in(run_id: str) -> datetime | None:
    try:
        return datetime.strptime(_started_text(run_id), "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
