"""Ray Train around the worker: start the group, restart it from the last checkpoint, keep the best and the last."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.store.records import run_path
from cluster.store.storage import Store
from runspec.errors import GuitarfishError, RunFailedError
from training.run.results import TrainingResult
from training.strategies.placement import Placement
from training.worker.failures import worker_failed
from training.worker.job import HOLDOUT_LOSS, MEMORY, Event, TrainJob
from training.worker.output import logs_folder, redirect_output
from training.worker.worker import train_on_worker

POLL_SECONDS = "0.5"
"""How often Ray Train's controller polls its workers: a checkpoint, a lost worker and the end of a run wait for it.
Ray's default is 2 s."""


@dataclass
class RayContext:
    board: Any
    rank: int = field(init=False)
    world_size: int = field(init=False)
    _answer: Any = field(init=False, default=None)
    _stop: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        import ray.train

        context = ray.train.get_context()
        self.rank = context.get_world_rank()
        self.world_size = context.get_world_size()

    def emit(self, event: Event) -> None:
        self.board.post.remote(event)

    def stop_requested(self) -> bool:
        """The answer to a question from an earlier step, so that no step waits for the driver's node."""
        import ray

        if self._answer is None:
            self._answer = self.board.stop_requested.remote()
        if ray.wait([self._answer], timeout=0)[0]:
            self._stop = ray.get(self._answer)
            self._answer = None
        return self._stop

    def save(self, metrics: dict[str, float], folder: Path) -> None:
        """Upload this rank's files; returns once Ray Train would restart from this checkpoint.

        `report` alone returns before the controller knows of it: a worker lost before the next poll would cost one
        checkpoint more (seen with ray 2.60.0).
        """
        import ray.train

        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(str(folder)))
        ray.train.get_all_reported_checkpoints(consistency_mode=ray.train.CheckpointConsistencyMode.COMMITTED)

    @contextmanager
    def latest_checkpoint(self) -> Iterator[Path | None]:
        """The last checkpoint that all ranks finished, including earlier attempts."""
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            yield None
        else:
            with checkpoint.as_directory() as folder:
                yield Path(folder)


def _worker_entry(config: dict[str, Any]) -> None:
    import ray
    import ray.train
    import torch

    job: TrainJob = config["job"]
    context = RayContext(config["board"])
    log_file = worker_log(job.run_id, context.rank)
    redirect_output(log_file)
    if not torch.cuda.is_available():
        torch.set_num_threads(config["cpus"])
    if context.rank == 0:
        context.emit(Event("group_started", values={"pid": float(os.getpid())}, phase="starting"))
    if (failure := ray.get(context.board.failure.remote())) is not None:
        raise failure
    try:
        train_on_worker(job, context)
    except GuitarfishError as error:
        ray.get(context.board.fail.remote(error))
        raise
    except Exception:
        traceback.print_exc()  # into the worker's log, whose end the driver shows
        raise


def worker_log(run_id: str, rank: int) -> Path:
    """On the worker's own machine; all attempts write to it."""
    return logs_folder(run_id) / f"worker-{rank}.log"


def launch(job: TrainJob, placement: Placement, store: Store, board: Any) -> TrainingResult:
    """Train until the last step or a requested stop, from the run's last checkpoint if it has one.

    Raises:
        GuitarfishError: what a worker raised, if the user can fix it.
        RunFailedError: workers failed more often than `training.max_failures`.
    """
    import ray.train
    from ray.train.torch import TorchTrainer

    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", POLL_SECONDS)
    training = job.spec.training
    scored = job.tokens.holdout is not None
    trainer = TorchTrainer(
        _worker_entry,
        train_loop_config={"job": job, "board": board, "cpus": placement.cpus_per_worker},
        scaling_config=ray.train.ScalingConfig(
            num_workers=placement.workers,
            use_gpu=placement.gpus_per_worker > 0,
            resources_per_worker=placement.resources,
        ),
        run_config=ray.train.RunConfig(
            name="checkpoints",
            **_storage(store, job.run_id),
            failure_config=ray.train.FailureConfig(max_failures=training.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=1,  # the best; Ray also keeps the last, to restart from
                checkpoint_score_attribute=HOLDOUT_LOSS if scored else None,
                checkpoint_score_order="min",
            ),
        ),
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        failures: dict[int, BaseException] = getattr(error, "worker_failures", {})
        rank, cause = next(iter(sorted(failures.items())), (0, error))
        raise worker_failed(cause, f"Worker {rank}", worker_log(job.run_id, rank), job.run_id) from error
    return _result(result, job)


def _storage(store: Store, run_id: str) -> dict[str, Any]:
    import pyarrow.fs

    filesystem, root = store.filesystem()
    handler = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(filesystem)) if filesystem else None
    return {"storage_path": f"{root}/{run_path(run_id)}", "storage_filesystem": handler}


def _result(result: Any, job: TrainJob) -> TrainingResult:
    kept = [(checkpoint, metrics) for checkpoint, metrics in result.best_checkpoints or []]
    if not kept:
        raise RunFailedError(
            "Training ended without a checkpoint.",
            where=str(worker_log(job.run_id, 0)),
            fix=f"Fix the cause, which the log shows, then run: guitarfish train --resume {job.run_id}",
        )
    last = max(kept, key=lambda pair: pair[1]["step"])
    best = min(kept, key=lambda pair: pair[1].get(HOLDOUT_LOSS, -pair[1]["step"]))
    return TrainingResult(
        steps=int(last[1]["step"]),
        tokens=int(last[1]["tokens"]),
        best_step=int(best[1]["step"]),
        best_holdout_loss=best[1].get(HOLDOUT_LOSS),
        best_checkpoint=_in_store(best[0], job.run_id),
        last_checkpoint=_in_store(last[0], job.run_id),
        memory_bytes=max((int(metrics[MEMORY]) for _, metrics in kept if MEMORY in metrics), default=None),
    )


def _in_store(checkpoint: Any, run_id: str) -> str:
    return run_path(run_id, f"checkpoints/{checkpoint.path.rstrip('/').rpartition('/')[2]}")
