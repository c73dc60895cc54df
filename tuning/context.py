"""The `WorkerContext` of a trial: events go to the search's board, the losses of checkpoints to Ray Tune."""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.tune

from runspec.errors import ConflictError, RunFailedError
from training.run.results import TrainingResult
from training.worker.job import HOLDOUT_LOSS, Event
from tuning.records import TrialFolder

STATE = "trainer_state.json"
"""Uploaded last: a checkpoint counts once it is there."""


class PrunedError(RunFailedError):
    """Other trials are ahead of this one. Raised at the checkpoint where that was decided."""


@dataclass
class Kept:
    """A checkpoint on this machine.

    Attributes:
        metrics: step, tokens, hold-out loss.
    """

    metrics: dict[str, float]
    folder: Path

    @property
    def step(self) -> int:
        return int(self.metrics["step"])


@dataclass
class TrialContext:
    """One worker of one trial; a context manager around its scratch folder.

    The best and the last checkpoint are kept on this machine and put into the store when training ends: the store never
    deletes, so every checkpoint of every trial would stay.

    Attributes:
        number: the trial's.
        steps: planned optimiser steps; known once training has begun.
        curve: hold-out loss by step.
    """

    number: int
    folder: TrialFolder
    board: Any
    rank: int = 0
    world_size: int = 1
    steps: int = 0
    curve: dict[int, float] = field(default_factory=dict)
    _kept: list[Kept] = field(default_factory=list)
    _scratch: Path = field(default_factory=Path)
    _answer: Any = None
    _stop: str = ""

    def __enter__(self) -> TrialContext:
        self._scratch = Path(tempfile.mkdtemp(prefix="guitarfish-trial-"))
        return self

    def __exit__(self, *exc: object) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    def emit(self, event: Event) -> None:
        if event.kind in ("begun", "resumed"):
            self.steps = event.steps
        self.board.post.remote(self.number, event)

    def stop_requested(self) -> bool:
        """The answer to a question asked at an earlier step: a step never waits for the driver's node."""
        if self._answer is None:
            self._answer = self.board.stop_reason.remote()
        if ray.wait([self._answer], timeout=0)[0]:
            self._stop = ray.get(self._answer)
            self._answer = None
        return bool(self._stop)

    def save(self, metrics: dict[str, float], folder: Path) -> None:
        """Keep a checkpoint, and let Ray Tune compare its hold-out loss with that of the other trials.

        Raises:
            PrunedError: they are ahead.
            RunFailedError: the loss is not a number.
        """
        step = int(metrics["step"])
        kept = Kept(metrics, self._scratch / f"checkpoint-{step}")
        shutil.copytree(folder, kept.folder, dirs_exist_ok=True)
        self._kept.append(kept)
        best = self._best()
        for old in self._kept:
            if old not in (best, kept):
                shutil.rmtree(old.folder, ignore_errors=True)
        self._kept = [one for one in self._kept if one in (best, kept)]
        if HOLDOUT_LOSS not in metrics:
            return
        if not math.isfinite(metrics[HOLDOUT_LOSS]):
            raise RunFailedError(
                f"The hold-out loss is {metrics[HOLDOUT_LOSS]} after step {step}: the learning rate is too high.",
                where="tuning.learning_rates",
                fix="Leave that rate out.",
            )
        self.curve[step] = metrics[HOLDOUT_LOSS]
        ray.tune.report({"step": step, HOLDOUT_LOSS: metrics[HOLDOUT_LOSS]})  # returns once it has been compared
        if ray.get(self.board.is_pruned.remote(self.number)):
            self.emit(Event("checkpoint", step, self.steps, metrics, phase="checkpointing"))
            raise PrunedError(f"Stopped after step {step}: others had a lower hold-out loss.")

    def _best(self) -> Kept:
        return min(self._kept, key=lambda kept: (kept.metrics.get(HOLDOUT_LOSS, float("inf")), -kept.step))

    @contextmanager
    def latest_checkpoint(self) -> Iterator[Path | None]:
        """The last checkpoint that an earlier attempt put into the store."""
        store, folder = self.folder.store, self.folder.checkpoints_path
        whole = [name for name in store.list(folder) if store.exists(f"{folder}/{name}/{STATE}")]
        if not whole:
            yield None
            return
        last = max(whole, key=lambda name: int(name.rpartition("-")[2]))
        store.download_folder(f"{folder}/{last}", self._scratch / "resumed")
        yield self._scratch / "resumed"

    @property
    def stopped_early(self) -> str:
        """Why training stopped before its last step; empty where it did not."""
        return self._stop if self._kept and self._kept[-1].step < self.steps else ""

    def result(self) -> TrainingResult:
        """Put the best and the last checkpoint into the store, and say where they are.

        Raises:
            RunFailedError: there is none.
        """
        if not self._kept:
            raise RunFailedError(
                "Training ended without a checkpoint.",
                where="training.checkpoint_every_steps",
                fix="The trial's log has the reason.",
            )
        best, last = self._best(), self._kept[-1]
        for kept in {best.step: best, last.step: last}.values():
            files = (file for file in kept.folder.rglob("*") if file.is_file())
            for file in sorted(files, key=lambda file: file.name == STATE):
                with contextlib.suppress(ConflictError):  # an earlier attempt stopped at this step
                    self.folder.store.upload(file, f"{self._in_store(kept)}/{file.relative_to(kept.folder)}")
        return TrainingResult(
            steps=last.step,
            tokens=int(last.metrics["tokens"]),
            best_step=best.step,
            best_holdout_loss=best.metrics.get(HOLDOUT_LOSS),
            best_checkpoint=self._in_store(best),
            last_checkpoint=self._in_store(last),
        )

    def _in_store(self, kept: Kept) -> str:
        return f"{self.folder.checkpoints_path}/{kept.folder.name}"
