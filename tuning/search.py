"""The search: Ray Tune runs the trials; this writes their ledgers, watches budget and Ctrl-C, and shows progress."""

from __future__ import annotations

import logging
import os
import time
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
from training.run.recorder import Recorder
from training.run.results import TrialRecord
from training.worker.failures import last_line
from tuning.asha import GracefulAsha, Queue
from tuning.board import BY_USER, OVER_BUDGET, Ending, start_search_board
from tuning.progress import TrialState
from tuning.records import SearchFolder
from tuning.slots import may_start
from tuning.space import trial_spec, tuning_of
from tuning.trial import SearchJob, run_trial

Closed = Literal["", "budget", "user"]
KILLED = "its process is gone: killed, or the machine ran out of memory"


@dataclass
class Search:
    """A search in progress.

    Attributes:
        concurrent: trials at the same time.
        price: of one trial.
        base_usd: what was spent before the first trial.
        stop_requested: whether the user asked to stop.
        show: takes the state of all trials and the dollars spent, several times a second.
        closed: why no further trial starts; empty while they do.
        over: whether running trials were asked to stop because the budget is spent.
        running: by number, the recorder of each running trial and what its earlier attempts cost.
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
    running: dict[int, tuple[Recorder, float]] = field(default_factory=dict)
    board: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray Tune pickles what it is given in order to restore it, but we resume from our own store."""
        return {}

    def run(self) -> Closed:
        """Run the trials that no earlier attempt finished. Returns why some were not run; empty if all were."""
        self.states = [self._state_in_store(number) for number in range(len(self.job.trials))]
        left = [state.trial.number for state in self.states if state.state not in ("finished", "pruned")]
        self.board = start_search_board()
        scheduler = GracefulAsha(tuning_of(self.job.spec), self._prune)
        for number in sorted(set(range(len(self.states))) - set(left)):
            scheduler.remember(number, self.folder.trial_folder(number).curve.read())
        try:
            if left:
                self._tune(left, scheduler)
        finally:
            for number in list(self.running):  # none, unless Ray or the store failed
                self._close(number, Ending("interrupted", "the search ended with an error"))
        self.pump()
        return self.closed

    @property
    def spent_usd(self) -> float:
        """Of all attempts of the search so far, failed ones too."""
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
        ended = [state.usd for state in self.states if state.usd and state.trial.number not in self.running]
        if not self.closed and not may_start(self.spent_usd, self.budget_usd, ended):
            self.closed = "budget"
        return not self.closed

    def pump(self) -> None:
        """Take in what the trials posted, and check whether the search has to end."""
        for number, event in ray.get(self.board.fetch.remote()):
            if number in self.running:
                self.running[number][0].handle(event)
                self.states[number].apply(event)
        self._count_dollars()
        if self.stop_requested() and self.closed != "user":
            self.closed = "user"
            self.board.stop_all.remote(BY_USER)
        elif self.closed != "user" and not self.over and spent_out(self.spent_usd, self.budget_usd):
            self.closed, self.over = "budget", True
            self.board.stop_all.remote(OVER_BUDGET)
        self.show(self.states, self.spent_usd)

    def started(self, number: int) -> None:
        """A trial's process is up: its attempt begins."""
        folder, trial, state = self.folder.trial_folder(number), self.job.trials[number], self.states[number]
        folder.spec.write_once(lambda: trial_spec(self.job.spec, trial))
        folder.trial.write_once(lambda: TrialRecord(search=self.job.search_id, **vars(trial)))
        recorder = Recorder(lambda: folder.ledger.start(self.hardware, workers=1, price=self.price), time.monotonic)
        self.running[number] = recorder, state.usd
        state.state = "starting"

    def ended(self, number: int, otherwise: Ending) -> None:
        """A trial's process is done: its attempt ends as the trial reported, or `otherwise`."""
        self.pump()
        if number in self.running:
            self._close(number, ray.get(self.board.ending.remote(number)) or otherwise)
        self.show(self.states, self.spent_usd)

    def _prune(self, number: int) -> None:
        ray.get(self.board.prune.remote(number))

    def _count_dollars(self) -> None:
        for number, (recorder, earlier_usd) in self.running.items():
            self.states[number].usd = earlier_usd + recorder.usd

    def _close(self, number: int, ending: Ending) -> None:
        self._count_dollars()
        recorder, _ = self.running.pop(number)
        recorder.close(ending.outcome, ending.reason)
        self.states[number].state, self.states[number].reason = ending.outcome, ending.reason

    def _state_in_store(self, number: int) -> TrialState:
        """How far earlier attempts of the search got with a trial."""
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
    """Passes the events of Ray Tune's loop to the search, in the thread of `Tuner.fit`."""

    def __init__(self, search: Search) -> None:
        self._search = search

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Several times a second."""
        self._search.pump()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._search.started(_number(trial))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._search.ended(_number(trial), Ending("failed", "it ended without reporting how"))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """It raised, or its process is gone."""
        error = trial.get_pickled_error()
        gone = ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError
        lost = error is None or isinstance(error, gone)
        self._search.ended(_number(trial), Ending("failed", KILLED if lost else last_line(error)))


def _log_to_file() -> None:
    """Ray Tune's lines and tracebacks go to the driver's log, not to the terminal."""
    logger = logging.getLogger("ray.tune")
    logger.propagate = False
    logger.handlers = list(logging.getLogger().handlers)


def _number(trial: Any) -> int:
    return int(trial.config["number"])
