"""What the store has about a run, read into one value. A part that is missing is None: runs end at any stage."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cluster.billing.ledger import Attempt, Ledger
from cluster.store.records import damaged
from cluster.store.runs import RunKind, State, state_of
from cluster.store.storage import Store
from runspec.errors import StoreError
from runspec.run import RunSpec
from training.curation.certificate import LeakCertificate
from training.data.example import Example
from training.data.rows import read_examples_if_there
from training.evaluation.results import After, Before, EvaluationResult
from training.planning.prediction import Prediction
from training.run.publication import Publication
from training.run.receipt import Receipt
from training.run.results import CuratedRun, TrainingResult, TrialRecord
from tuning.records import SearchFolder, SearchResult, runs_of

Points = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class TrainingLog:
    """What the trainer logged, by optimiser step.

    Attributes:
        loss: the method's, of each step.
        holdout: loss on held-out rows at checkpoints.
        rate: learning rate.
        not_finite: steps whose loss was NaN or infinite; they are not among `loss`.
        extent: steps planned; None: unknown.
    """

    loss: Points = ()
    holdout: Points = ()
    rate: Points = ()
    not_finite: int = 0
    extent: int | None = None


@dataclass(frozen=True)
class ReportData:
    """A run, as a report shows it.

    Attributes:
        kind: which verb made it: `train`, `evaluate`, `pairs`, `tune` (the search, or one of its trials).
        state: finished once nothing is left to do; else the outcome of the last attempt.
        now: when it was read.
        attempts: of this run.
        trial_attempts: of the trials of a search.
        data: what happened to its rows; of a trial, its search's.
        rows: held-out rows by their origin; empty where the store has none.
        notes: why a part is missing.
    """

    run_id: str
    store_uri: str
    kind: RunKind
    state: State
    now: datetime
    spec: RunSpec
    attempts: tuple[Attempt, ...]
    trial_attempts: tuple[Attempt, ...] = ()
    data: CuratedRun | None = None
    leaks: LeakCertificate | None = None
    prediction: Prediction | None = None
    training: TrainingResult | None = None
    log: TrainingLog | None = None
    before: Before | None = None
    after: After | None = None
    result: EvaluationResult | None = None
    publication: Publication | None = None
    receipt: Receipt | None = None
    search: SearchResult | None = None
    trial: TrialRecord | None = None
    rows: dict[str, Example] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def gather(store: Store, run_id: str) -> ReportData:
    """Read all that a report shows of a run.

    Raises:
        StoreError: the store cannot be read, or one of the run's files is damaged; names the file.
    """
    run = SearchFolder(store, run_id)
    run.read_all()
    if not run.spec.exists():
        fix = "Start it again from its run file."
        raise StoreError(f"Run {run_id} has no spec.json.", where=run.where, fix=fix)
    rows = run.data_folder()
    spec, training, receipt = run.spec.read(), run.training.read_if_there(), run.receipt.read_if_there()
    attempts = tuple(run.ledger.attempts())
    data, notes = rows.data.read_if_there(), {}
    if data is None:
        notes["funnel"] = "The data of this run was not fully prepared, or is not in this store."
    elif data.fates is not None:
        data, notes["funnel"] = None, "This run was made by an earlier version, which kept no funnel."
    now, kind = datetime.now(UTC), _kind(run)
    return ReportData(
        run_id=run_id,
        store_uri=store.uri,
        kind=kind,
        state="finished" if receipt is not None else state_of(attempts, now),
        now=now,
        spec=spec,
        attempts=attempts,
        trial_attempts=tuple(_trial_attempts(store, run_id)) if kind == "search" else (),
        data=data,
        leaks=rows.leaks.read_if_there(),
        prediction=run.prediction.read_if_there(),
        training=training,
        log=_log(run, training),
        before=rows.before.read_if_there(),
        after=run.after.read_if_there(),
        result=run.result.read_if_there(),
        publication=run.publication.read_if_there(),
        receipt=receipt,
        search=run.last_result() if kind == "search" else None,
        trial=run.trial.read_if_there(),
        rows={example.origin: example for example in read_examples_if_there(store, rows.run_id, "holdout")},
        notes=notes,
    )


def _kind(run: SearchFolder) -> RunKind:
    """As the run's folder says; runs of earlier versions have no kind.json, so by what they left there."""
    record = run.kind.read_if_there()
    if run.trial.exists():
        return "trial"
    if record is not None:
        return record.kind
    if run.search.exists():
        return "search"
    if run.samples.exists():
        return "pairs"
    return "evaluate" if run.after.exists() and not run.training.exists() else "train"


def _trial_attempts(store: Store, search: str) -> Iterable[Attempt]:
    for name in runs_of(store, search):
        if name != search:
            yield from Ledger(store, name).attempts()


def _log(run: SearchFolder, training: TrainingResult | None) -> TrainingLog | None:
    """The trainer's own state in the last checkpoint, which has the steps before it too."""
    folders = [training.last_checkpoint] if training else []
    if not folders:  # named after the time they were made at; Ray Train's own files lie beside them
        names = run.store.list(run.checkpoints_path)
        named = [name for name in names if name.startswith("checkpoint_") and not name.endswith(".json")]
        folders = [f"{run.checkpoints_path}/{name}" for name in reversed(named)]
    for folder in folders:
        path = f"{folder}/trainer_state.json"
        content = run.store.read_if_there(path)
        if content is None:
            continue
        try:
            return parse_log(content)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise damaged(run.store, path, f"{type(error).__name__}: {error}") from error
    return None


def parse_log(content: bytes) -> TrainingLog:
    """A trainer_state.json as transformers writes it."""
    state = json.loads(content)
    entries: list[dict[str, Any]] = state["log_history"]

    def points(key: str) -> Points:
        pairs = [(int(entry["step"]), float(entry[key])) for entry in entries if key in entry]
        return tuple((step, value) for step, value in pairs if math.isfinite(value))

    loss = points("loss")
    not_finite = sum("loss" in entry for entry in entries) - len(loss)
    return TrainingLog(loss, points("eval_loss"), points("learning_rate"), not_finite, state.get("max_steps") or None)
