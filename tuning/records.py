"""What a search leaves in the store beside its trials' runs: what it started from, each trial's curve, the choice."""

from __future__ import annotations

from typing import Any, Literal

from cluster.store.storage import Store
from runspec.errors import StoreError
from runspec.strict import Strict
from training.evaluation.scores import Score

SEARCH = "search.json"
CURVE = "curve.json"
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


class TrialRecord(Strict):
    """What a trial's run belongs to. Stored as runs/<trial>/trial.json."""

    search: str
    """The search's run, which has the data and the base model's scores."""
    number: int
    rank: int
    alpha: float
    learning_rate: float


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


def runs_of(store: Store, search_id: str) -> list[str]:
    """The search's own run and those of its trials, which carry its cost together."""
    return [name for name in store.list("runs") if name == search_id or name.startswith(f"{search_id}-t")]


def read_search(store: Store, search_id: str) -> SearchRecord:
    """What a search started from.

    Raises:
        StoreError: this run is no search.
    """
    path = f"runs/{search_id}/{SEARCH}"
    if not store.exists(path):
        raise StoreError(
            f"run {search_id} is no search",
            where=f"{store.uri}/{path}",
            fix=f"guitarfish train --resume {search_id}",
        )
    return SearchRecord.model_validate_json(store.read(path))
