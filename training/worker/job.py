"""A training job and its events: plain data that passes between the driver and the workers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from cluster.billing.ledger import Phase
from runspec.run import RunSpec
from runspec.strategy import Concrete
from training.model.base_model import BaseModel
from training.tokens.arrow import RunTokens

Kind = Literal[
    "stage",  # the driver begins a stage; `text` names it
    "progress",  # rows answered in an evaluation
    "group_started",  # a group of training workers is up
    "model_loaded",
    "weights",  # how much of the frozen weights a worker holds
    "begun",  # the first step of a run is next
    "resumed",  # the step after a checkpoint is next
    "step",
    "saving",
    "checkpoint",
    "note",
]
HOLDOUT_LOSS = "holdout_loss"
"""A checkpoint's metric: mean cross-entropy on held-out answers, in nats per token."""

MEMORY = "memory_bytes"
"""A checkpoint's metric: the most memory that the first worker has held."""


@dataclass(frozen=True)
class TrainJob:
    """One run, as every worker sees it.

    Attributes:
        run_id: folder of the run in the store.
        spec: the resolved run file: its paths are absolute.
        strategy: the run file's, or what the planner chose for `auto`.
        base: the base model as the driver found it.
        tokens: what it is trained on. The trials of a search share theirs.
    """

    run_id: str
    spec: RunSpec
    strategy: Concrete
    base: BaseModel
    tokens: RunTokens


@dataclass(frozen=True)
class Event:
    """Something for the live view and the ledger.

    Attributes:
        step: optimiser steps done (or rows answered, for `progress`).
        steps: optimiser steps in total.
        values: numbers by name: loss, learning_rate, tokens, seconds, memory_bytes, holdout_loss.
        text: a line for the user.
        phase: what the time since the previous event was spent on; empty if not yet known.
    """

    kind: Kind
    step: int = 0
    steps: int = 0
    values: dict[str, float] = field(default_factory=dict)
    text: str = ""
    phase: Phase | Literal[""] = ""


class WorkerContext(Protocol):
    """A worker's connection to its driver: Ray Train, or none (`LocalContext`)."""

    rank: int
    world_size: int

    def emit(self, event: Event) -> None:
        """Send the driver an event; never waits."""

    def stop_requested(self) -> bool:
        """Whether the user asked the run to stop at the next step; called on rank 0 only."""

    def save(self, metrics: dict[str, float], folder: Path) -> None:
        """Keep a checkpoint. Every rank calls it with its own folder; the files are merged."""

    def latest_checkpoint(self) -> AbstractContextManager[Path | None]:
        """The folder of the last checkpoint, or None."""


@dataclass
class LocalContext:
    """One worker without Ray, for a debugger or a test."""

    folder: Path
    rank: int = 0
    world_size: int = 1
    events: list[Event] = field(default_factory=list)
    saved: list[tuple[dict[str, float], Path]] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def stop_requested(self) -> bool:
        return False

    def save(self, metrics: dict[str, float], folder: Path) -> None:
        target = self.folder / f"checkpoint-{int(metrics['step'])}"
        shutil.copytree(folder, target, dirs_exist_ok=True)
        self.saved.append((metrics, target))

    @contextmanager
    def latest_checkpoint(self) -> Iterator[Path | None]:
        found = sorted(self.folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        yield found[-1] if found else None
