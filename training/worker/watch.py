"""The callback that connects transformers' Trainer with a worker's context: progress, checkpoints, stop requests."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runspec.errors import ModelError
from training.methods.preference import REFERENCE
from training.worker.job import HOLDOUT_LOSS, MEMORY, Event, Kind, WorkerContext

FIRST_LOSS_TOLERANCE = 0.02
"""Relative. Two passes over the same batch differ by about 0.001 in bfloat16."""


def trainer_callback(
    context: WorkerContext,
    folder: Path,
    *,
    first_loss: float | None,
    held_bytes: Callable[[Any], tuple[int, int]],
) -> Any:
    """A `transformers.TrainerCallback` that reports to `context`; checkpoints are taken from `folder`.

    Args:
        first_loss: the loss of a new run's first step; None if it is not known.
        held_bytes: bytes of frozen weights that this worker holds, and of the whole model.
    """
    from transformers import TrainerCallback  # not at the top: the driver imports this module

    return type("Watch", (_Watch, TrainerCallback), {})(context, folder, first_loss, held_bytes)


@dataclass(eq=False)
class _Watch:
    context: WorkerContext
    folder: Path
    first_loss: float | None
    held_bytes: Callable[[Any], tuple[int, int]]
    step_started: float = field(default_factory=time.monotonic)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        held, whole = self.held_bytes(kwargs["model"])
        values = {"rank": float(self.context.rank), "held_bytes": float(held), "whole_bytes": float(whole)}
        self.context.emit(Event("weights", values=values))
        if self.context.rank == 0:
            kind: Kind = "resumed" if state.global_step else "begun"
            seen = {"tokens": float(state.num_input_tokens_seen)}
            self.context.emit(Event(kind, state.global_step, state.max_steps, seen, phase="starting"))
        self.step_started = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if _agreed(self.context.rank == 0 and self.context.stop_requested(), self.context.world_size):
            control.should_save = True
            control.should_training_stop = True
        if state.global_step >= state.max_steps and args.eval_strategy != "no":
            control.should_evaluate = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if self.context.rank != 0 or "loss" not in logs:
            return
        if state.global_step == 1 and self.first_loss is not None:
            _check_first_loss(float(logs["loss"]), self.first_loss)
        now = time.monotonic()
        values = {
            "loss": float(logs["loss"]),
            "learning_rate": float(logs.get("learning_rate", 0)),
            "grad_norm": float(logs.get("grad_norm", 0)),
            "tokens": float(state.num_input_tokens_seen),
            "seconds": now - self.step_started,
            MEMORY: float(memory_bytes()),
        }
        self.step_started = now
        self.context.emit(Event("step", state.global_step, state.max_steps, values, phase="training"))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.context.rank == 0:
            self.context.emit(Event("saving", state.global_step, state.max_steps, phase="evaluating"))
        metrics = {"step": float(state.global_step), "tokens": float(state.num_input_tokens_seen)}
        metrics[MEMORY] = float(memory_bytes())
        losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
        if losses:
            metrics[HOLDOUT_LOSS] = float(losses[-1])
        checkpoint = self.folder / f"checkpoint-{state.global_step}"
        # A reference adapter is made again from what the run started from. On resume transformers would load it instead
        # of the trained adapter.
        shutil.rmtree(checkpoint / REFERENCE, ignore_errors=True)
        self.context.save(metrics, checkpoint)
        if self.context.rank == 0:
            self.context.emit(Event("checkpoint", state.global_step, state.max_steps, metrics, phase="checkpointing"))
        self.step_started = time.monotonic()


def _check_first_loss(found: float, expected: float) -> None:
    if abs(found - expected) > FIRST_LOSS_TOLERANCE * expected:
        raise ModelError(
            f"The loss of the first step is {found:.4f} instead of {expected:.4f}: the reference is not the model that "
            "the run started from.",
            where="lora.start_from",
            fix="Report this with the run file: no setting should cause it.",
        )


def _agreed(wanted_here: bool, world_size: int) -> bool:
    """Whether rank 0 wants to stop: all ranks have to leave the loop at the same step."""
    if world_size == 1:
        return wanted_here
    import torch
    import torch.distributed

    device = f"cuda:{torch.cuda.current_device()}" if torch.distributed.get_backend() == "nccl" else "cpu"
    flag = torch.tensor([int(wanted_here)], device=device)
    torch.distributed.broadcast(flag, src=0)
    return bool(flag.item())


def memory_bytes() -> int:
    """The most memory that the fullest of this worker's GPUs has reserved, or that the process has used."""
    import torch

    if torch.cuda.is_available():
        return max(int(torch.cuda.max_memory_reserved(card)) for card in range(torch.cuda.device_count()))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
