"""The stages of a run. Each writes its result to the store, and is not repeated on resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cluster.billing.ledger import Phase, total_cost
from cluster.store.records import Record, T
from cluster.store.storage import Store
from registry.adapters import Registry
from runspec.run import RunSpec
from runspec.strategy import Concrete
from training.data.example import Example
from training.evaluation.evaluator import Evaluator
from training.evaluation.results import After, Before, EvaluationResult, summarise
from training.evaluation.self_pairs import Drawing, sample
from training.model.adapter_files import adapter_files
from training.model.base_model import BaseModel, materialise
from training.run.publication import Publication, publish_run
from training.run.receipt import Receipt, make_receipt
from training.run.results import CuratedRun, Sampled, TrainingResult
from training.run.run_folder import TrainingFolder
from training.strategies.placement import Placement
from training.tokens.arrow import RunTokens, write_tokens
from training.worker.failures import stopped
from training.worker.job import Event, TrainJob
from training.worker.launcher import launch
from training.worker.output import logs_folder


@dataclass(frozen=True)
class Run:
    """A run in progress.

    Attributes:
        folder: what earlier attempts finished, and where this one writes.
        spec: the resolved run file.
        board: the actor that workers post events to.
        tell: takes the driver's own events.
    """

    folder: TrainingFolder
    spec: RunSpec
    strategy: Concrete
    placement: Placement
    board: Any
    tell: Callable[[Event], None]
    stop_requested: Callable[[], bool]

    @cached_property
    def base(self) -> BaseModel:
        """The base model, found and hashed once, for all workers; weights from a hub are not downloaded here."""
        return materialise(self.spec.model, Path(), weights=False)

    def tokens(self) -> RunTokens:
        """What is trained on: tokenised here, once per run."""
        return self.once(self.folder.tokens, lambda: write_tokens(self.store, self.run_id, self.spec, self.base))

    @property
    def run_id(self) -> str:
        return self.folder.run_id

    @property
    def store(self) -> Store:
        return self.folder.store

    def once(self, record: Record[T], make: Callable[[], T]) -> T:
        """What an earlier attempt wrote, or else `make()`, which is then written.

        Raises:
            InterruptedRunError: it would have to be made, but the run is to stop.
        """

        def unless_stopped() -> T:
            if self.stop_requested():
                raise stopped(self.run_id)
            return make()

        return record.write_once(unless_stopped)

    def stage(self, name: str, spent_on: Phase) -> None:
        """Begin a stage; the time since the last event was `spent_on` something else."""
        self.tell(Event("stage", text=name, phase=spent_on))


@dataclass(frozen=True)
class Finished:
    evaluation: EvaluationResult
    training: TrainingResult
    publication: Publication | None


@dataclass(frozen=True)
class Measured:
    """An evaluation: the base model's scores, and the comparison with the adapter if one was named."""

    before: Before
    result: EvaluationResult | None


def run_stages(run: Run) -> Finished:
    """Measure, train, measure, decide, publish; what is already in the store is taken from there.

    Raises:
        InterruptedRunError: the user asked to stop.
        GuitarfishError: a stage failed; what was finished before it is kept.
    """
    folder, data = run.folder, run.folder.data.read()
    for note in data.notes:
        run.tell(Event("note", text=note))
    evaluator = _evaluator(run)
    run.stage("measuring the base model", "starting")
    before = run.once(folder.before, evaluator.before)
    run.stage("training", "evaluating")
    training = run.once(folder.training, lambda: _train(run))
    run.stage("measuring the tuned model", "idle")
    after = run.once(folder.after, lambda: evaluator.after(training.best_checkpoint, before))
    result = run.once(folder.result, lambda: _decide(run.spec, before, after))
    publication = None
    if result.verdict.passed and run.spec.publish is not None:
        run.stage("publishing", "evaluating")
        publication = run.once(folder.publication, lambda: _publish(run, data, training, result, after))
    run.stage("done", "checkpointing")
    return Finished(result, training, publication)


def evaluate_stages(run: Run, adapter: str | None) -> Measured:
    """Measure without training: the base model, and an adapter if one is named.

    Args:
        adapter: the adapter's folder, below the store's root.

    Raises:
        InterruptedRunError: the user asked to stop.
    """
    evaluator = _evaluator(run)
    run.stage("measuring the base model", "starting")
    before = run.once(run.folder.before, evaluator.before)
    if adapter is None:
        run.stage("done", "evaluating")
        return Measured(before, None)
    run.stage("measuring the adapter", "evaluating")
    after = run.once(run.folder.after, lambda: evaluator.after(adapter, before))
    run.stage("done", "evaluating")
    return Measured(before, run.once(run.folder.result, lambda: _decide(run.spec, before, after)))


def sample_stages(run: Run, examples: list[Example], adapter: str | None, drawing: Drawing) -> Sampled:
    """Sample answers to the examples' prompts.

    Args:
        adapter: the adapter's folder, below the store's root; None samples from the base model.
        drawing: how they are sampled and judged.

    Raises:
        InterruptedRunError: the user asked to stop.
    """
    run.stage("drawing answers", "starting")
    sampled = run.once(run.folder.samples, lambda: sample(_evaluator(run), examples, adapter, drawing))
    run.stage("done", "evaluating")
    return sampled


def _evaluator(run: Run) -> Evaluator:
    """On the workers of the run; where no GPU holds the model by itself, on one worker that owns all GPUs."""
    spread = run.strategy.kind in ("zero3", "device_map")
    placement = run.placement.as_one if spread else run.placement
    return Evaluator(run.run_id, run.spec, run.base, run.store, placement, run.board, run.stop_requested)


def train_job(run: Run) -> TrainJob:
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
        usd = total_cost(run.folder.ledger.attempts()).usd
        return publish_run(Registry(run.store), run.run_id, run.spec, run.base, folder, data, result, after.canary, usd)


def receipt_of(folder: TrainingFolder, finished: Finished) -> Receipt:
    """The receipt, written once. To be called after the last attempt has ended, so that its cost is complete."""
    store, publication = folder.store, finished.publication
    places = {
        "run": folder.where,
        "adapter": f"{store.uri}/{finished.training.best_checkpoint}",
        "logs": str(logs_folder(folder.run_id)),
    }
    if publication is not None:
        places["published"] = f"{store.uri}/{publication.path}"
    return folder.receipt.write_once(
        lambda: make_receipt(
            folder.run_id,
            folder.ledger.attempts(),
            finished.training,
            finished.evaluation,
            "kept" if publication is None else "published",
            places,
            folder.prediction.read_if_there(),
        )
    )
