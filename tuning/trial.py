"""What Ray Tune runs for each trial: train, measure, and say on the board how it ended."""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cluster.store.storage import open_store
from runspec.errors import GuitarfishError, InterruptedRunError
from runspec.run import RunSpec
from runspec.strategy import Concrete
from training.evaluation.evaluator import AnyShare, Evaluator
from training.evaluation.results import summarise
from training.model.base_model import BaseModel
from training.run.results import TrainingResult
from training.strategies.placement import Placement
from training.tokens.arrow import RunTokens
from training.worker.failures import last_line
from training.worker.job import Event, TrainJob
from training.worker.launcher import worker_log
from training.worker.output import redirect_output
from training.worker.worker import train_on_worker
from tuning.board import BY_USER, OVER_BUDGET, Ending
from tuning.context import PrunedError, TrialContext
from tuning.records import Curve, SearchFolder, TrialFolder
from tuning.space import Trial, trial_run_id, trial_spec


@dataclass(frozen=True)
class SearchJob:
    """A search, as every trial sees it.

    Attributes:
        search_id: the run that has the data and the base model's scores.
        spec: its resolved run file.
        base: the base model as the driver found it.
        tokens: what every trial is trained on: what a trial varies changes no token.
        trials: all of them, by number.
        one: what a trial gets.
    """

    search_id: str
    spec: RunSpec
    strategy: Concrete
    base: BaseModel
    tokens: RunTokens
    trials: list[Trial]
    one: Placement

    def run_id(self, number: int) -> str:
        """The run of a trial."""
        return trial_run_id(self.search_id, number)


def run_trial(config: dict[str, Any], job: SearchJob, board: Any) -> None:
    """The function that Ray Tune calls, in a process that may have run an earlier trial.

    Args:
        config: `number` of the trial.

    Raises:
        Exception: whatever made the trial fail; Ray Tune goes on with the others.
    """
    import ray
    import torch

    number = int(config["number"])
    run_id = job.run_id(number)
    redirect_output(worker_log(run_id, 0))
    if not torch.cuda.is_available():
        torch.set_num_threads(job.one.cpus_per_worker)
    board.post.remote(number, Event("group_started", values={"pid": float(os.getpid())}, phase="starting"))
    try:
        ending = _run(job, number, board)
    except Exception as error:
        traceback.print_exc()  # into the trial's log
        reason = error.what if isinstance(error, GuitarfishError) else f"{type(error).__name__}: {last_line(error)}"
        ray.get(board.end.remote(number, Ending("failed", reason.splitlines()[0])))
        raise
    ray.get(board.end.remote(number, ending))


def _run(job: SearchJob, number: int, board: Any) -> Ending:
    store = open_store(job.spec.store)
    folder = SearchFolder(store, job.search_id).trial_folder(number)
    spec = trial_spec(job.spec, job.trials[number])
    training = folder.training.read_if_there()
    if training is None:
        try:
            with TrialContext(number, folder, board) as context:
                _train(job, spec, context)
        except PrunedError as pruned:
            return Ending("pruned", pruned.what)
        if early := context.stopped_early:
            return Ending("over_budget" if early == OVER_BUDGET else "interrupted", early)
        training = folder.training.read()
    try:
        _measure(job, number, board, training, spec, folder)
    except InterruptedRunError as stop:
        return Ending("interrupted", stop.what)
    return Ending("finished")


def _train(job: SearchJob, spec: RunSpec, context: TrialContext) -> None:
    """Train one trial, and put its checkpoints into the store; its result too, where it came to its last step.

    Raises:
        PrunedError: others are ahead; its checkpoints are in the store then too.
    """
    folder = context.folder
    try:
        train_on_worker(TrainJob(folder.run_id, spec, job.strategy, job.base, job.tokens), context)
    except PrunedError:
        context.result()
        folder.curve.write_once(lambda: _curve(context, pruned=True))
        raise
    finally:
        _free_memory()
    result = context.result()
    if not context.stopped_early:
        folder.curve.write_once(lambda: _curve(context, pruned=False))
        folder.training.write_once(lambda: result)


def _curve(context: TrialContext, *, pruned: bool) -> Curve:
    steps = sorted(context.curve)
    return Curve(pruned=pruned, steps=steps, losses=[context.curve[step] for step in steps])


def _measure(
    job: SearchJob, number: int, board: Any, training: TrainingResult, spec: RunSpec, folder: TrialFolder
) -> None:
    """Measure the tuned model on the search's hold-out, against the search's measurement of the base model."""
    before = SearchFolder(folder.store, job.search_id).before.read()
    evaluator = HereEvaluator(
        run_id=folder.run_id,
        spec=spec,
        base=job.base,
        store=folder.store,
        placement=job.one,
        board=_Progress(board, number),
        stop_requested=lambda: False,
        data_run=job.search_id,
    )
    after = folder.after.write_once(lambda: evaluator.after(training.best_checkpoint, before))
    _free_memory()
    board.post.remote(number, Event("note", phase="evaluating"))
    folder.result.write_once(
        lambda: summarise(before.base, before.few_shot, after.tuned, after.drift, spec.gate, seed=spec.seed)
    )


@dataclass(frozen=True)
class _Progress:
    """The search's board, as one trial's evaluation sees it."""

    board: Any
    number: int

    def tell(self, done: int, rows: int) -> None:
        """Post how many rows are answered; stop here if the user wants to. A spent budget lets the rest be measured.

        Raises:
            InterruptedRunError: the user stopped the search.
        """
        import ray

        if ray.get(self.board.stop_reason.remote()) == BY_USER:
            raise InterruptedRunError(BY_USER)
        self.board.post.remote(self.number, Event("progress", done, rows, phase="evaluating"))


Part = TypeVar("Part")


class HereEvaluator(Evaluator):
    """Measures in this process, which has everything imported and its device to itself."""

    def spread(
        self, shares: Sequence[AnyShare], work: Callable[[AnyShare, Callable[[int, int], None]], Part]
    ) -> list[Part]:
        """Work on the only share."""
        return [work(share, self.board.tell) for share in shares]


def _free_memory() -> None:
    """Of the model before: the next one is loaded beside it otherwise."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
