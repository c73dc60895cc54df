"""What a search leaves in the store beside its trials' runs: what it started from, each trial's curve, the choice."""

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
    """What a search started from. Stored as runs/<search>/search.json."""

    run_file: str
    """Where it lay."""
    folder: str
    """Where its relative paths start."""
    written: dict[str, Any]
    """The keys it gives, overrides applied; without defaults."""
    text: str = ""
    """The run file itself, for its comments."""


class Curve(Strict):
    """Hold-out losses of a trial that trained to its end or was stopped for being behind. Stored as curve.json."""

    pruned: bool
    steps: list[int]
    losses: list[float]
    """At those steps, in nats a token."""


class TrialLine(Strict):
    """One trial, as the table at the end lists it."""

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
    """Of its last checkpoint, in nats a token."""
    score: Score | None
    """On `gate.metric`; null where it was not measured."""
    mean_kl: float | None
    """Drift on general prompts."""
    passed: bool | None
    """Whether it passes the run file's gate."""
    cost_usd: float


class SearchResult(Strict):
    """How a search ended. Stored as runs/<search>/result-<n>.json: a search that is resumed ends again."""

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
    """Trials left out because they moved too far on general prompts."""
    base_score: float
    """Of the untuned model."""
    cost_usd: float
    """Of the whole search: base measurement and all trials, failed ones too."""
    budget_usd: float | None
    run_file: str
    """The run file that was written into the store."""


class TrialFolder(TrainingFolder):
    """The folder of a trial's run."""

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
        """Numbers of the results; one is written each time that the search ends."""
        names = [name.removeprefix("result-").removesuffix(".json") for name in self.store.list(self.path())]
        return [int(name) for name in names if name.isdigit()]

    def result_of(self, number: int) -> Record[SearchResult]:
        return Record(self.store, self.path(f"result-{number}.json"), SearchResult)

    def last_result(self) -> SearchResult | None:
        """How the search ended the last time; None for other runs, and for a search that has not ended."""
        last = max(self.results(), default=0)
        return self.result_of(last).read() if last else None

    def run_file_path(self, number: int) -> str:
        """The run file that was chosen with a result."""
        return self.path(f"tuned-{number}.yaml")


def runs_of(store: Store, search_id: str) -> list[str]:
    """The search's own run and those of its trials, which carry its cost together."""
    return [name for name in run_ids(store) if name == search_id or name.startswith(f"{search_id}-t")]
