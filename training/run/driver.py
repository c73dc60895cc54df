"""The driver of a run: connects to Ray, runs the stages beside the live view, watches for Ctrl-C and a spent budget,
closes the attempt."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from queue import SimpleQueue
from types import FrameType
from typing import Any, TypeVar

import ray
from transformers.utils import logging as transformers_logging

from cluster.billing.ledger import Outcome
from cluster.billing.prices import Price
from cluster.machine.hardware import Hardware
from cluster.machine.session import Session, connect
from runspec.errors import GuitarfishError, InterruptedRunError
from runspec.run import RunSpec
from runspec.strategy import Concrete
from training.run.board import start_board
from training.run.budget import UNLIMITED, Budget, over_budget
from training.run.pipeline import Run
from training.run.recorder import Recorder
from training.run.run_folder import TrainingFolder
from training.strategies.placement import Placement
from training.strategies.strategy import load_strategy
from training.worker.job import Event
from training.worker.output import logs_folder

POLL_SECONDS = 0.2


@dataclass
class Stop:
    """Whether a run is to stop at its next step: the user asked (Ctrl-C, or SIGTERM, which a cluster sends), or its
    budget is spent. Handles the signal when called."""

    board: Any = None
    tell: Callable[[Event], None] = lambda event: None
    by_user: bool = False
    over_budget: bool = False

    @property
    def requested(self) -> bool:
        return self.by_user or self.over_budget

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.by_user:
            raise KeyboardInterrupt
        self.by_user = True
        self._ask("stopping after this step, with a checkpoint (Ctrl-C again: at once, without)")

    def spent(self) -> None:
        if not self.requested:
            self.over_budget = True
            self._ask("the budget is spent: stopping after this step, with a checkpoint")

    def _ask(self, text: str) -> None:
        if self.board is not None:
            self.board.request_stop.remote()
        self.tell(Event("note", text=text))


Result = TypeVar("Result")


def drive(
    folder: TrainingFolder,
    spec: RunSpec,
    strategy: Concrete,
    stages: Callable[[Run], Result],
    *,
    hardware: Hardware,
    price: Price,
    show: Callable[[Event], None],
    session: Session | None = None,
    budget: Budget = UNLIMITED,
    clock: Callable[[], float] = time.monotonic,
) -> Result:
    """Run a run's stages to the end, on Ray, as one attempt in its ledger.

    Args:
        strategy: how the model is spread over the workers.
        stages: what to do; called in a thread of its own.
        show: takes every event, in this thread.
        session: the Ray session where there is one already; without, one is opened for this call.
        budget: once spent, the run is asked to stop as the user would.
        clock: seconds that only go forward; they are what is paid.

    Raises:
        InterruptedRunError: the user stopped it; it can be resumed.
        BudgetError: the budget stopped it; it can be resumed with more.
        GuitarfishError: a stage failed; what was finished is kept.
    """
    _log_to_file(folder.run_id)
    stop = Stop(tell=show)
    with _signals(stop):
        ledger, workers = folder.ledger, spec.hardware.workers
        recorder = Recorder(
            lambda: ledger.start(hardware, workers=workers, price=price, budget_usd=budget.limit_usd), clock
        )

        def tell(event: Event) -> None:
            recorder.handle(event)
            show(event)

        def watch_budget() -> None:
            if budget.reached(recorder.usd):
                stop.spent()

        try:
            tell(Event("stage", text="starting Ray"))
            with nullcontext(session) if session else connect() as session:
                if session.own:  # its nodes are not taken away: without the watcher there is one process less to start
                    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
                signal.signal(signal.SIGTERM, _terminated(stop))  # ray.init put its own in place, which exits at once
                placement = load_strategy(strategy).place(spec.hardware, session)
                stop.board = start_board()
                tell(Event("note", text=f"{_in_words(placement)}; logs in {logs_folder(folder.run_id)}"))
                tell(Event("note", phase="starting"))
                result = _in_thread(
                    lambda post: stages(
                        Run(folder, spec, strategy, placement, stop.board, post, lambda: stop.requested)
                    ),
                    tell,
                    stop.board,
                    watch_budget,
                )
        except BaseException as error:
            outcome, reason = _outcome(error, stop)
            recorder.close(outcome, reason)
            if outcome == "over_budget":
                raise over_budget(folder.run_id, budget, recorder.usd, recorder.kept_step) from error
            raise
        recorder.close("finished")
    return result


def _in_words(placement: Placement) -> str:
    kind = f"{placement.gpus_per_worker} GPU" if placement.gpus_per_worker else f"{placement.cpus_per_worker} CPU"
    return f"{placement.workers} workers, {kind} each"


def _outcome(error: BaseException, stop: Stop) -> tuple[Outcome, str]:
    if isinstance(error, InterruptedRunError) and stop.over_budget:
        return "over_budget", "the budget was spent"
    if isinstance(error, InterruptedRunError | KeyboardInterrupt):
        return "interrupted", "stopped by the user"
    reason = error.what if isinstance(error, GuitarfishError) else f"{type(error).__name__}: {error}"
    return "failed", reason.splitlines()[0]


def _in_thread(
    stages: Callable[[Callable[[Event], None]], Result],
    tell: Callable[[Event], None],
    board: Any,
    poll: Callable[[], None],
) -> Result:
    """Run the stages in a thread. This one handles their events, as signal handlers and rich both want one thread, and
    gets Ctrl-C, which Ray Train would take for itself."""
    events: SimpleQueue[Event] = SimpleQueue()
    result: list[Result] = []
    error: list[BaseException] = []

    def work() -> None:
        try:
            result.append(stages(events.put))
        except BaseException as raised:  # noqa: BLE001 - carried to the thread that waits below
            error.append(raised)

    thread = threading.Thread(target=work, name="stages", daemon=True)
    thread.start()
    while True:
        alive = thread.is_alive()
        while not events.empty():
            tell(events.get())
        for event in ray.get(board.fetch.remote()):
            tell(event)
        if not alive:
            break
        poll()
        thread.join(POLL_SECONDS)
    if error:
        raise error[0]
    return result[0]


@contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    handlers: dict[int, Callable[[int, FrameType | None], None]]
    handlers = {signal.SIGINT: stop, signal.SIGTERM: _terminated(stop)}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminated(stop: Stop) -> Callable[[int, FrameType | None], None]:
    """The handler of SIGTERM. A second one changes nothing, unlike a second Ctrl-C: clusters send it more than once,
    and then SIGKILL."""

    def handle(signum: int, frame: FrameType | None) -> None:
        if not stop.requested:
            stop(signum, frame)

    return handle


def _log_to_file(run_id: str) -> None:
    """Libraries' log lines and warnings go to a file: the terminal belongs to the live view."""
    handler = logging.FileHandler(logs_folder(run_id) / "driver.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    transformers_logging.disable_progress_bar()
    transformers_logging.disable_default_handler()
    transformers_logging.enable_propagation()
