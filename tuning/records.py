"""The records of a search in the store: what it started from, each trial's curve, the choice."""

from __future__ import annotations

from typing import Any, Literal

from cluster.store.records import Record
from cluster.store.runs import run_ids
from cluster.store.storage import Store
from runspec.strict import Strict
from training.evaluation.scores import Score
from training.run.run_folder import TrainingFolder
from tuning.space import trial_run_id

Ended = Literal["done", "budget"]


class SearchRecord(Strict):
    """What a search started from. Stored as search.json."""

    run_file: str
    folder: str
    """What its relative paths are relative to."""
    written: dict[str, Any]
    """The keys it sets, with overrides and without defaults."""
    text: str = ""
    """The run file as written, for its comments."""


class Curve(Strict):
    """Hold-out losses of a trial that trained to its end or was stopped for being behind. Stored as curve.json."""

    pruned: bool
    steps: list[int]
    losses: list[float]
    """At those steps, in nats per token."""


class TrialLine(Strict):
    """One trial in the final table."""

    number: int
    run_id: str
    rank: int
    alpha: float
    learning_rate: float
    outcome: str
    """finished, pruned, failed, interrupted, over_budget, lost, or `not started`."""
    reason: str
    """Of a failed or stopped trial."""
    step: int
    """The optimiser step reached."""
    holdout_loss: float | None
    """Of its last checkpoint, in nats per token."""
    score: Score | None
    """On `gate.metric`; null where it was not measured."""
    mean_kl: float | None
    """Drift on general prompts."""
    passed: bool | None
    """Whether it passes the run file's gate."""
    cost_usd: float


class SearchResult(Strict):
    """How a search ended. Stored as result-<n>.json: a search that is resumed ends again."""

    search: str
    metric: str
    ended: Ended
    """`budget`: some trials were not run, or stopped."""
    trials: list[TrialLine]
    chosen: int
    """The smallest rank that cannot be told from the best; trials are named by their numbers."""
    best: int
    equals: list[int]
    """Trials that cannot be told from the best one."""
    too_far: list[int]
    """Trials left out because they drifted too far on general prompts."""
    base_score: float
    """Of the untuned model."""
    cost_usd: float
    """Of the whole search: the base model's measurement and all trials, failed ones too."""
    budget_usd: float | None
    run_file: str
    """The chosen run file, below the store's root."""


class TrialFolder(TrainingFolder):
    def __init__(self, store: Store, run_id: str) -> None:
        super().__init__(store, run_id)
        self.curve = self.record("curve.json", Curve)


class SearchFolder(TrainingFolder):
    """The folder of a search's run, which has the rows and the base model's scores for its trials."""

    def __init__(self, store: Store, run_id: str) -> None:
        super().__init__(store, run_id)
        self.search = self.record("search.json", SearchRecord)
        self._trials: dict[int, TrialFolder] = {}

    def trial_folder(self, number: int) -> TrialFolder:
        return self._trials.setdefault(number, TrialFolder(self.store, trial_run_id(self.run_id, number)))

    def results(self) -> list[int]:
        """Numbers of the results; one is written each time the search ends."""
        names = [name.removeprefix("result-").removesuffix(".json") for name in self.store.list(self.path())]
        return [int(name) for name in names if name.isdigit()]

    def result_of(self, number: int) -> Record[SearchResult]:
        return Record(self.store, self.path(f"result-{number}.json"), SearchResult)

    def last_result(self) -> SearchResult | None:
        """None for other runs, and for a search that has not ended."""
        last = max(self.results(), default=0)
        return self.result_of(last).read() if last else None

    def run_file_path(self, number: int) -> str:
        return self.path(f"tuned-{number}.yaml")


def runs_of(store: Store, search_id: str) -> list[str]:
    """The search's own run and those of its trials: its cost is their sum."""
    return [name for name in run_ids(store) if name == search_id or name.startswith(f"{search_id}-t")]
