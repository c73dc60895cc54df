"""What Ray Tune is given: the queue of trials, and ASHA that asks a trial to stop."""

from __future__ import annotations

from types import SimpleNamespace

from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from runspec.tuning import TuningSpec
from tuning.asha import GracefulAsha, Queue
from tuning.records import Curve

TUNING = TuningSpec(grace_steps=10, reduction_factor=3)


class Asha:
    """The scheduler with the trials it asked to stop."""

    def __init__(self) -> None:
        self.pruned: list[int] = []
        self.scheduler = GracefulAsha(TUNING, self.pruned.append)
        self.trials: dict[int, SimpleNamespace] = {}

    def report(self, number: int, step: int, loss: float) -> None:
        if number not in self.trials:
            self.trials[number] = SimpleNamespace(trial_id=f"t{number}", config={"number": number})
            self.scheduler.on_trial_add(None, self.trials[number])
        action = self.scheduler.on_trial_result(None, self.trials[number], {"step": step, "holdout_loss": loss})
        assert action == TrialScheduler.CONTINUE  # never killed by Ray Tune


def test_a_trial_behind_the_others_is_asked_to_stop_once() -> None:
    asha = Asha()
    for number, loss in enumerate((1.0, 1.1, 0.9)):
        asha.report(number, 10, loss)
    assert asha.pruned == [1]
    asha.report(1, 11, 1.1)
    asha.report(3, 10, 5.0)
    assert asha.pruned == [1, 3]


def test_nothing_is_stopped_before_the_grace_steps() -> None:
    asha = Asha()
    for number, loss in enumerate((0.1, 9.0, 8.0)):
        asha.report(number, 9, loss)
    assert asha.pruned == []


def test_the_last_step_stops_nobody() -> None:
    asha = Asha()
    asha.report(0, 10_000_000, 1.0)
    assert asha.pruned == []


def test_trials_of_an_earlier_attempt_are_compared_with() -> None:
    asha = Asha()
    asha.scheduler.remember(0, Curve(pruned=False, steps=[10, 20, 30], losses=[0.5, 0.4, 0.3]))
    asha.report(1, 10, 2.0)
    assert asha.pruned == [1]


def test_the_queue_gives_each_trial_once_and_then_ends() -> None:
    queue = Queue([3, 1], lambda: True)
    assert [queue.suggest("a"), queue.suggest("b"), queue.suggest("c")] == [
        {"number": 3},
        {"number": 1},
        Searcher.FINISHED,
    ]


def test_the_queue_ends_when_no_trial_may_start() -> None:
    answers = [True, False]
    queue = Queue([0, 1], lambda: answers.pop(0))
    assert [queue.suggest("a"), queue.suggest("b")] == [{"number": 0}, Searcher.FINISHED]
