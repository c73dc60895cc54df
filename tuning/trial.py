"""What Ray Tune runs for each trial: train, measure, report on the board how it ended."""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import ray
import torch

from cluster.store.storage import open_store
from runspec.errors import GuitarfishError, InterruptedRunError
from runspec.run import RunSpec
from runspec.strategy import Concrete
from training.evaluation.evaluator import AnyShare, Evaluator
from training.evaluation.results import Before, summarise
from training.model.base_model import BaseModel
from training.strategies.placement import Placement
from training.tokens.arrow import RunTokens
from training.worker.failures import last_line
from training.worker.job import Event, TrainJob
from training.worker.launcher import worker_log
from training.worker.output import redirect_output
from training.worker.worker import train_on_worker
from tuning.board import BY_USER, OVER_BUDGET, Ending
from tuning.context import PrunedError, TrialContext
from tuning.records import Curve, TrialFolder
from tuning.space import Trial, trial_run_id, trial_spec


@dataclass(frozen=True)
class SearchJob:
    """A search, as every trial sees it.

    Attributes:
        search_id: the run that has the rows.
        spec: its resolved run file.
        base: the base model as the driver found it.
        before: its scores.
        tokens: the same for every trial: nothing that a trial varies changes a token.
        trials: all of them, by number.
        one: what a trial gets.
    """

    search_id: str
    spec: RunSpec
    strategy: Concrete
    base: BaseModel
    before: Before
    tokens: RunTokens
    trials: list[Trial]
    one: Placement


def run_trial(config: dict[str, Any], job: SearchJob, board: Any) -> None:
    """The function that Ray Tune calls, in a process that may have run an earlier trial.

    Args:
        config: `number` of the trial.

    Raises:
        Exception: whatever made the trial fail; Ray Tune goes on with the others.
    """
    number = int(config["number"])
    redirect_output(worker_log(trial_run_id(job.search_id, number), 0))
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
    folder = TrialFolder(open_store(job.spec.store), trial_run_id(job.search_id, number))
    spec = trial_spec(job.spec, job.trials[number])
    training = folder.training.read_if_there()
    if training is None:
        with TrialContext(number, folder, board) as context:
            try:
                train_on_worker(TrainJob(folder.run_id, spec, job.strategy, job.base, job.tokens), context)
            except PrunedError as pruned:
                context.result()
                folder.curve.write_once(lambda: _curve(context, pruned=True))
                return Ending("pruned", pruned.what)
            finally:
                _free_memory()
            result = context.result()
        if early := context.stopped_early:
            return Ending("over_budget" if early == OVER_BUDGET else "interrupted", early)
        folder.curve.write_once(lambda: _curve(context, pruned=False))
        training = folder.training.write_once(lambda: result)
    evaluator = HereEvaluator(
        run_id=folder.run_id,
        spec=spec,
        base=job.base,
        store=folder.store,
        placement=job.one,
        board=partial(_progress, board, number),
        stop_requested=lambda: False,
        data_run=job.search_id,
    )
    before, checkpoint = job.before, training.best_checkpoint
    try:
        after = folder.after.write_once(lambda: evaluator.after(checkpoint, before))
    except InterruptedRunError as stop:
        return Ending("interrupted", stop.what)
    _free_memory()
    board.post.remote(number, Event("note", phase="evaluating"))
    folder.result.write_once(
        lambda: summarise(before.base, before.few_shot, after.tuned, after.drift, spec.gate, seed=spec.seed)
    )
    return Ending("finished")


def _curve(context: TrialContext, *, pruned: bool) -> Curve:
    steps = sorted(context.curve)
    return Curve(pruned=pruned, steps=steps, losses=[context.curve[step] for step in steps])


def _progress(board: Any, number: int, done: int, rows: int) -> None:
    """Post how many rows are answered; stop here if the user asked to. A spent budget lets the rest be measured.

    Raises:
        InterruptedRunError: the user stopped the search.
    """
    if ray.get(board.stop_reason.remote()) == BY_USER:
        raise InterruptedRunError(BY_USER)
    board.post.remote(number, Event("progress", done, rows, phase="evaluating"))


Part = TypeVar("Part")


class HereEvaluator(Evaluator):
    """Measures in this process, which has its device to itself. Its `board` takes rows answered and rows in total."""

    def spread(
        self, shares: Sequence[AnyShare], work: Callable[[AnyShare, Callable[[int, int], None]], Part]
    ) -> list[Part]:
        return [work(share, self.board) for share in shares]


def _free_memory() -> None:
    """Of the previous model, before the next one is loaded."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
