"""The search: Ray Tune runs the trials, this keeps their ledgers, minds budget and Ctrl-C, and shows how they stand."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import ray
from ray import tune
from ray.tune.logger import JsonLoggerCallback

from cluster.billing.ledger import total_cost
from cluster.billing.prices import Price
from cluster.machine.cache import cache_folder
from cluster.machine.hardware import Hardware
from training.run.budget import spent_out
from training.run.results import TrialRecord
from training.worker.failures import last_line
from tuning.asha import GracefulAsha, Queue
from tuning.board import BY_USER, OVER_BUDGET, Ending, start_search_board
from tuning.budget import may_start
from tuning.progress import RunningTrial, TrialState
from tuning.records import SearchFolder
from tuning.space import trial_spec
from tuning.trial import SearchJob, run_trial

Closed = Literal["", "budget", "user"]
KILLED = "its process is gone: killed, or the machine ran out of memory"


@dataclass
class Search:
    """A search that is going on.

    Attributes:
        job: what every trial is told.
        concurrent: trials at the same time.
        price: of one trial an hour.
        base_usd: what was spent before the first trial.
        stop_requested: whether the user asked to stop.
        show: takes how the trials stand, and all dollars spent, several times a second.
        closed: why no further trial starts; empty while they do.
        over: whether those that run were asked to stop because the budget is spent.
    """

    job: SearchJob
    folder: SearchFolder
    hardware: Hardware
    concurrent: int
    price: Price
    base_usd: float
    budget_usd: float | None
    stop_requested: Callable[[], bool]
    show: Callable[[list[TrialState], float], None]
    closed: Closed = ""
    over: bool = False
    states: list[TrialState] = field(default_factory=list)
    running: dict[int, RunningTrial] = field(default_factory=dict)
    board: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray Tune pickles all it is given to restore it one day; we go on from our own store."""
        return {}

    def run(self) -> Closed:
        """Run the trials that no earlier attempt finished. Returns why it ended before all were; empty if they were."""
        self.states = [self._state_in_store(number) for number in range(len(self.job.trials))]
        left = [state.trial.number for state in self.states if state.state not in ("finished", "pruned")]
        self.board = start_search_board()
        scheduler = GracefulAsha(self._tuning, self._prune)
        for number in sorted(set(range(len(self.states))) - set(left)):
            scheduler.remember(number, self.folder.trial_folder(number).curve.read())
        try:
            if left:
                self._tune(left, scheduler)
        finally:
            for trial in self.running.values():  # none, unless Ray or the store failed us
                trial.close(Ending("interrupted", "the search ended with a fault"))
        self.pump()
        return self.closed

    @property
    def _tuning(self) -> Any:
        return self.job.spec.tuning

    @property
    def spent_usd(self) -> float:
        """All attempts of the search until now, failed ones too."""
        return self.base_usd + sum(state.usd for state in self.states)

    def _tune(self, left: list[int], scheduler: GracefulAsha) -> None:
        _log_to_file()
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # JSON alone, which Tune itself reads at the end
        os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the new one prints a box to stdout whatever its verbosity
        trainable = tune.with_parameters(run_trial, job=self.job, board=self.board)
        tuner = tune.Tuner(
            tune.with_resources(trainable, self.job.one.resources),
            tune_config=tune.TuneConfig(
                search_alg=Queue(left, self.may_start),
                scheduler=scheduler,
                num_samples=len(left),
                max_concurrent_trials=self.concurrent,
                reuse_actors=True,  # the next trial finds everything imported
            ),
            run_config=tune.RunConfig(
                name=self.job.search_id,
                storage_path=str(cache_folder("tune")),
                callbacks=[Observer(self), JsonLoggerCallback()],
                verbose=0,
            ),
        )
        tuner.fit()

    def may_start(self) -> bool:
        """Whether one more trial may start."""
        ended = [state.usd for state in self.states if state.usd and state.trial.number not in self.running]
        if not self.closed and not may_start(self.spent_usd, self.budget_usd, ended):
            self.closed = "budget"
        return not self.closed

    def pump(self) -> None:
        """Take in what the trials posted, and see whether the search has to end."""
        for number, event in ray.get(self.board.fetch.remote()):
            if number in self.running:
                self.running[number].handle(event)
        for trial in self.running.values():
            trial.tick()
        if self.stop_requested() and self.closed != "user":
            self.closed = "user"
            self.board.stop_all.remote(BY_USER)
        elif self.closed != "user" and not self.over and spent_out(self.spent_usd, self.budget_usd):
            self.closed, self.over = "budget", True
            self.board.stop_all.remote(OVER_BUDGET)
        self.show(self.states, self.spent_usd)

    def started(self, number: int) -> None:
        """A trial's process is up: its attempt begins."""
        folder, trial = self.folder.trial_folder(number), self.job.trials[number]
        record = TrialRecord(
            search=self.job.search_id,
            number=number,
            rank=trial.rank,
            alpha=trial.alpha,
            learning_rate=trial.learning_rate,
        )
        folder.spec.write_once(lambda: trial_spec(self.job.spec, trial))
        folder.trial.write_once(lambda: record)
        self.running[number] = RunningTrial(
            self.states[number],
            lambda: folder.ledger.start(self.hardware, workers=1, price=self.price),
        )

    def ended(self, number: int, otherwise: Ending) -> None:
        """A trial's process is done: its attempt ends as the trial said, or `otherwise`."""
        self.pump()
        trial = self.running.pop(number, None)
        if trial is not None:
            trial.close(ray.get(self.board.ending.remote(number)) or otherwise)
        self.show(self.states, self.spent_usd)

    def _prune(self, number: int) -> None:
        ray.get(self.board.prune.remote(number))

    def _state_in_store(self, number: int) -> TrialState:
        """How far an earlier attempt of the search came with a trial."""
        folder = self.folder.trial_folder(number)
        state = TrialState(self.job.trials[number], usd=total_cost(folder.ledger.attempts()).usd)
        curve = folder.curve.read_if_there()
        if folder.result.read_if_there() is not None:
            state.state = "finished"
        elif curve is not None and curve.pruned:
            state.state = "pruned"
        if state.state != "waiting" and curve is not None and curve.steps:
            state.step, state.holdout_loss = curve.steps[-1], curve.losses[-1]
        return state


class Observer(tune.Callback):
    """What Ray Tune's loop tells, told to the search; called in the thread of `Tuner.fit`."""

    def __init__(self, search: Search) -> None:
        self._search = search

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Several times a second."""
        self._search.pump()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial's process is up."""
        self._search.started(_number(trial))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial's function returned."""
        self._search.ended(_number(trial), Ending("failed", "it ended without a word"))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """It raised, or its process is gone."""
        error = trial.get_pickled_error()
        gone = ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError
        lost = error is None or isinstance(error, gone)
        self._search.ended(_number(trial), Ending("failed", KILLED if lost else last_line(error)))


def _log_to_file() -> None:
    """Ray Tune's lines and tracebacks go where the root logger's go, the driver's log, not to the terminal."""
    logger = logging.getLogger("ray.tune")
    logger.propagate = False
    logger.handlers = list(logging.getLogger().handlers)


def _number(trial: Any) -> int:
    return int(trial.config["number"])
