"""What the store has about a run, read into one value. A part that is missing is None: runs end at any stage."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cluster.billing.ledger import Attempt, Ledger, read_attempts
from cluster.store.runs import KindRecord, RunFolder, RunKind, State, state_of
from cluster.store.storage import Store
from runspec.errors import StoreError
from runspec.run import RunSpec
from training.curation.certificate import LeakCertificate
from training.curation.curated import LEAKS, SUMMARY, TRIAL, CuratedRun, data_run_of
from training.data.example import Example
from training.evaluation.results import After, Before, EvaluationResult
from training.planning.prediction import PLAN, Prediction
from training.run.publication import Publication
from training.run.receipt import Receipt
from training.run.results import TrainingResult
from tuning.records import SearchResult, TrialRecord

Model = TypeVar("Model", bound=BaseModel)
Read = TypeVar("Read")
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
    run = _RunFiles(RunFolder(store, run_id))
    data_run = run.parsed(TRIAL, lambda _: data_run_of(store, run_id)) or run_id
    rows = _RunFiles(RunFolder(store, data_run))
    spec = run.model("spec.json", RunSpec)
    if spec is None:
        raise StoreError(
            f"Run `{run_id}` has no spec.json.", where=run.place(""), fix="Start it again from its run file."
        )
    attempts = tuple(Ledger(store, run_id).attempts())
    training = run.model("training.json", TrainingResult)
    summary, why_no_funnel = _summary(rows, SUMMARY)
    now = datetime.now(UTC)
    kind = _kind(run, trial=data_run != run_id)
    result = run.model("evaluation/result.json", EvaluationResult)
    receipt = run.model("receipt.json", Receipt)
    return ReportData(
        run_id=run_id,
        store_uri=store.uri,
        kind=kind,
        state="finished" if receipt is not None else state_of(attempts, now),
        now=now,
        spec=spec,
        attempts=attempts,
        trial_attempts=tuple(_trial_attempts(store, run_id)) if kind == "search" else (),
        data=summary,
        leaks=rows.model(LEAKS, LeakCertificate),
        prediction=run.model(PLAN, Prediction),
        training=training,
        log=_log(run, training),
        before=rows.model("evaluation/before.json", Before),
        after=run.model("evaluation/after.json", After),
        result=result,
        publication=run.model("publication.json", Publication),
        receipt=receipt,
        search=_search_result(run) if kind == "search" else None,
        trial=run.model(TRIAL, TrialRecord),
        rows=_held_out(rows),
        notes={"funnel": why_no_funnel} if why_no_funnel else {},
    )


@dataclass(frozen=True)
class _RunFiles:
    """The files of a run. Each may be missing; a damaged one is an error that names it."""

    folder: RunFolder

    def place(self, name: str) -> str:
        return f"{self.folder.store.uri}/{self.folder.path(name)}".rstrip("/")

    def parsed(self, name: str, parse: Callable[[bytes], Read]) -> Read | None:
        content = self.folder.store.read_if_there(self.folder.path(name))
        if content is None:
            return None
        try:
            return parse(content)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise self._damaged(name, f"{key}: {first['msg']}" if key else first["msg"]) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(name, f"{type(error).__name__}: {error}") from error

    def model(self, name: str, kind: type[Model]) -> Model | None:
        return self.parsed(name, kind.model_validate_json)

    def _damaged(self, name: str, problem: str) -> StoreError:
        fix = "It was changed, or another version wrote it. Move it away to make the report without it."
        if name == "spec.json":
            fix = "It was changed, or another version wrote it. A run cannot be shown without its spec."
        what = f"Cannot read {name} of run `{self.folder.run_id}`: {problem}."
        return StoreError(what, where=self.place(name), fix=fix)


def _kind(run: _RunFiles, *, trial: bool) -> RunKind:
    """As the run's folder says; runs of earlier versions have no kind.json, so by what they left there."""
    there = run.folder.store.exists
    record = run.model("kind.json", KindRecord)
    if trial:
        return "trial"
    if record is not None:
        return record.kind
    if there(run.folder.path("search.json")):
        return "search"
    if there(run.folder.path("samples.json")):
        return "pairs"
    measured_only = there(run.folder.path("evaluation/after.json")) and not there(run.folder.path("training.json"))
    return "evaluate" if measured_only else "train"


def _summary(run: _RunFiles, name: str) -> tuple[CuratedRun | None, str]:
    """The data's summary, or why it is not shown."""
    content = run.parsed(name, json.loads)
    if content is None:
        return None, "The data of this run was not fully prepared, or is not in this store."
    if isinstance(content, dict) and "funnel" not in content:
        return None, "This run was made by an earlier version, which kept no funnel."
    return run.model(name, CuratedRun), ""


def _search_result(run: _RunFiles) -> SearchResult | None:
    names = [name for name in run.folder.store.list(f"runs/{run.folder.run_id}") if name.startswith("result-")]
    last = max(names, key=lambda name: (len(name), name), default=None)
    return run.model(last, SearchResult) if last else None


def _trial_attempts(store: Store, search: str) -> Iterable[Attempt]:
    trials = [name for name in store.list("runs") if name.startswith(f"{search}-t")]
    for name in trials:
        yield from read_attempts(store, store.walk(f"runs/{name}/attempts")).get(f"runs/{name}/attempts", [])


def _held_out(run: _RunFiles) -> dict[str, Example]:
    def parse(content: bytes) -> dict[str, Example]:
        examples = [Example.from_json(json.loads(line)) for line in content.decode().split("\n") if line]
        return {example.origin: example for example in examples}

    return run.parsed("data/holdout.jsonl", parse) or {}


def _log(run: _RunFiles, training: TrainingResult | None) -> TrainingLog | None:
    """The trainer's own state in the last checkpoint, which has the steps before it too."""
    folders = [training.last_checkpoint.rpartition("/")[2]] if training else []
    if not folders:  # named after the time they were made; Ray Train's own files are beside them
        names = run.folder.store.list(run.folder.checkpoints)
        folders = [name for name in names if name.startswith("checkpoint_") and not name.endswith(".json")][::-1]
    for folder in folders:
        found = run.parsed(f"checkpoints/{folder}/trainer_state.json", parse_log)
        if found is not None:
            return found
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
