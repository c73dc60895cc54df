"""Ray Tune's two decisions: which trial starts next (a queue with a budget), and which one stops early (ASHA)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import Searcher

from runspec.tuning import TuningSpec
from training.worker.job import HOLDOUT_LOSS
from tuning.records import Curve

NO_END = 10**9
"""More steps than any trial has: trials end by themselves, not by ASHA."""


class Queue(Searcher):
    """Starts trials one by one, by number, while `may_start()`."""

    def __init__(self, numbers: Sequence[int], may_start: Callable[[], bool]) -> None:
        super().__init__(metric=HOLDOUT_LOSS, mode="min")
        self._numbers = list(numbers)
        self._may_start = may_start

    def suggest(self, trial_id: str) -> Any:
        if not self._numbers or not self._may_start():
            return Searcher.FINISHED
        return {"number": self._numbers.pop(0)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Results change nothing: all trials are known from the start."""

    def save(self, checkpoint_path: str) -> None:
        """Ray Tune requires a file; a search is resumed from our store."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, for the same reason."""


class GracefulAsha(ASHAScheduler):
    """ASHA that asks a trial to stop, so that it keeps its checkpoint and reports how it ended.

    Ray Tune would kill the trial's process, which leaves an attempt without an end in the ledger.

    Args:
        prune: asks the trial with this number to stop; returns once the request was delivered.
    """

    def __init__(self, tuning: TuningSpec, prune: Callable[[int], None]) -> None:
        super().__init__(
            time_attr="step",
            metric=HOLDOUT_LOSS,
            mode="min",
            max_t=NO_END,
            grace_period=tuning.grace_steps,
            reduction_factor=tuning.reduction_factor,
        )
        self._prune = prune
        self._asked: set[str] = set()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if trial.trial_id in self._asked:
            return str(TrialScheduler.CONTINUE)
        action = super().on_trial_result(tune_controller, trial, result)
        if action == TrialScheduler.STOP:
            self._asked.add(trial.trial_id)
            self._prune(int(trial.config["number"]))
        return str(TrialScheduler.CONTINUE)

    def remember(self, number: int, curve: Curve) -> None:
        """Add a trial of an earlier attempt of the search, so that later ones are compared with it too."""
        earlier = SimpleNamespace(trial_id=f"earlier-{number}", config={"number": number})
        self.on_trial_add(None, earlier)
        for step, loss in zip(curve.steps, curve.losses, strict=True):
            super().on_trial_result(None, earlier, {"step": step, HOLDOUT_LOSS: loss})
        self.on_trial_remove(None, earlier)
