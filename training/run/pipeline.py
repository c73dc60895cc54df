"""The way of a run, stage by stage. Each stage leaves its result in the store and is not done again on resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from cluster.billing.ledger import Ledger, Phase
from cluster.store.storage import Store
from registry.adapters import Registry
from runspec.errors import ConflictError
from runspec.run import RunSpec
from runspec.strategy import Concrete
from training.curation.curated import CuratedRun, read_curated
from training.data.example import Example
from training.evaluation.evaluator import Evaluator
from training.evaluation.results import After, Before, EvaluationResult, summarise
from training.evaluation.self_pairs import Drawing, Sampled, sample
from training.model.adapter_files import adapter_files
from training.model.base_model import BaseModel, materialise
from training.planning.prediction import read_prediction
from training.run.publication import Publication, publish_run
from training.run.receipt import Receipt, write_receipt
from training.run.results import TrainingResult
from training.strategies.placement import Placement
from training.tokens.arrow import FACTS, RunTokens, write_tokens
from training.worker.failures import stopped
from training.worker.job import Event, TrainJob
from training.worker.launcher import launch
from training.worker.output import logs_folder

Stored = TypeVar("Stored", bound=pydantic.BaseModel)


@dataclass(frozen=True)
class Run:
    """A run that is going on.

    Attributes:
        run_id: its folder in the store.
        spec: the resolved run file.
        store: where it is kept.
        strategy: how the model is spread over them.
        placement: its workers.
        board: the actor that workers post events to.
        tell: takes the driver's own events.
        stop_requested: whether the user asked to stop.
    """

    run_id: str
    spec: RunSpec
    store: Store
    strategy: Concrete
    placement: Placement
    board: Any
    tell: Callable[[Event], None]
    stop_requested: Callable[[], bool]

    @cached_property
    def base(self) -> BaseModel:
        """The base model, hashed and found once, here; every worker is told of it. A hub's has no weights here."""
        return materialise(self.spec.model, Path(), weights=False)

    def tokens(self) -> RunTokens:
        """What is trained on: tokenised here, once a run."""
        return self.once(FACTS, RunTokens, lambda: write_tokens(self.store, self.run_id, self.spec, self.base))

    def path(self, name: str) -> str:
        """A path in the run's folder, below the store's root."""
        return f"runs/{self.run_id}/{name}"

    def once(self, name: str, kind: type[Stored], make: Callable[[], Stored]) -> Stored:
        """What an earlier attempt left under `name`, or `make()`, then left there."""
        path = self.path(name)
        if self.store.exists(path):
            return kind.model_validate_json(self.store.read(path))
        if self.stop_requested():
            raise stopped(self.run_id)
        made = make()
        try:
            self.store.create(path, made.model_dump_json(indent=1).encode())
        except ConflictError:  # another driver resumed the same run: its result is as good
            return kind.model_validate_json(self.store.read(path))
        return made

    def stage(self, name: str, spent_on: Phase) -> None:
        """Say what comes next, and what the time until now was spent on."""
        self.tell(Event("stage", text=name, phase=spent_on))


@dataclass(frozen=True)
class Finished:
    """What a run gave."""

    evaluation: EvaluationResult
    training: TrainingResult
    publication: Publication | None


@dataclass(frozen=True)
class Measured:
    """What an evaluation gave: the base model's side, and the comparison where there was an adapter."""

    before: Before
    result: EvaluationResult | None


def run_stages(run: Run) -> Finished:
    """Measure, train, measure, decide, publish; what is in the store already is taken from there.

    Raises:
        InterruptedRunError: the user asked to stop.
        GuitarfishError: a stage failed; what was finished before it stays.
    """
    data = read_curated(run.store, run.run_id)
    for note in data.notes:
        run.tell(Event("note", text=note))
    evaluator = _evaluator(run)
    run.stage("measuring the base model", "starting")
    before = run.once("evaluation/before.json", Before, evaluator.before)
    run.stage("training", "evaluating")
    training = run.once("training.json", TrainingResult, lambda: _train(run))
    run.stage("measuring the tuned model", "idle")
    after = run.once("evaluation/after.json", After, lambda: evaluator.after(training.best_checkpoint, before))
    result = run.once("evaluation/result.json", EvaluationResult, lambda: _decide(run.spec, before, after))
    publication = None
    if result.verdict.passed and run.spec.publish is not None:
        run.stage("publishing", "evaluating")
        publication = run.once("publication.json", Publication, lambda: _publish(run, data, training, result, after))
    run.stage("done", "checkpointing")
    return Finished(result, training, publication)


def evaluate_stages(run: Run, adapter: str | None) -> Measured:
    """Measure without training: the base model, and an adapter where one is named.

    Args:
        adapter: the adapter's folder, below the store's root.

    Raises:
        InterruptedRunError: the user asked to stop.
    """
    evaluator = _evaluator(run)
    run.stage("measuring the base model", "starting")
    before = run.once("evaluation/before.json", Before, evaluator.before)
    if adapter is None:
        run.stage("done", "evaluating")
        return Measured(before, None)
    run.stage("measuring the adapter", "evaluating")
    after = run.once("evaluation/after.json", After, lambda: evaluator.after(adapter, before))
    run.stage("done", "evaluating")
    return Measured(
        before, run.once("evaluation/result.json", EvaluationResult, lambda: _decide(run.spec, before, after))
    )


def sample_stages(run: Run, examples: list[Example], adapter: str | None, drawing: Drawing) -> Sampled:
    """Draw answers to the examples' prompts.

    Args:
        adapter: the adapter's folder, below the store's root; None draws from the base model.
        drawing: how they are drawn and judged.

    Raises:
        InterruptedRunError: the user asked to stop.
    """
    run.stage("drawing answers", "starting")
    sampled = run.once("samples.json", Sampled, lambda: sample(_evaluator(run), examples, adapter, drawing))
    run.stage("done", "evaluating")
    return sampled


def _evaluator(run: Run) -> Evaluator:
    """On the workers of the run; where no card holds the model by itself, on one worker that owns all cards."""
    spread = run.strategy.kind in ("zero3", "device_map")
    placement = run.placement.as_one if spread else run.placement
    return Evaluator(run.run_id, run.spec, run.base, run.store, placement, run.board, run.stop_requested)


def train_job(run: Run) -> TrainJob:
    """What the workers of a run are told."""
    return TrainJob(run.run_id, run.spec, run.strategy, run.base, run.tokens())


def _train(run: Run) -> TrainingResult:
    result = launch(train_job(run), run.placement, run.store, run.board)
    if run.stop_requested():
        raise stopped(run.run_id)
    return result


def _decide(spec: RunSpec, before: Before, after: After) -> EvaluationResult:
    start = spec.lora.start_from
    return summarise(
        before.base, before.few_shot, after.tuned, after.drift, spec.gate, seed=spec.seed, started_from=start
    )


def _publish(
    run: Run, data: CuratedRun, training: TrainingResult, result: EvaluationResult, after: After
) -> Publication:
    with adapter_files(run.store, training.best_checkpoint) as folder:
        cost_so_far = sum(attempt.cost_usd for attempt in Ledger(run.store, run.run_id).attempts())
        return publish_run(
            Registry(run.store), run.run_id, run.spec, run.base, folder, data, result, after.canary, cost_so_far
        )


def receipt_of(store: Store, run_id: str, finished: Finished) -> Receipt:
    """The receipt, written once; called after the last attempt was closed, so that it is paid in full."""
    outcome = "kept"
    if finished.publication is not None:
        outcome = "published"
    places = {
        "run": f"{store.uri}/runs/{run_id}",
        "adapter": f"{store.uri}/{finished.training.best_checkpoint}",
        "logs": str(logs_folder(run_id)),
    }
    if finished.publication is not None:
        places["published"] = f"{store.uri}/{finished.publication.path}"
    attempts = Ledger(store, run_id).attempts()
    prediction = read_prediction(store, run_id)
    made = write_receipt(run_id, attempts, finished.training, finished.evaluation, outcome, places, prediction)
    path = f"runs/{run_id}/receipt.json"
    if not store.exists(path):
        store.create(path, made.model_dump_json(indent=1).encode())
        return made
    return Receipt.model_validate_json(store.read(path))
