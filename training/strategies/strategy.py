"""What a strategy has to provide. Each file in training/strategies/ is one, found by the run file's `strategy.kind`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol, cast

from cluster.machine.session import Session
from runspec.hardware import HardwareSpec
from runspec.model import ModelSpec
from runspec.run import RunSpec
from runspec.strategy import Concrete
from training.model.base_model import BaseModel
from training.strategies.placement import Placement

if TYPE_CHECKING:
    import torch


class TrainingStrategy(Protocol):
    """A module of training/strategies/."""

    def place(self, hardware: HardwareSpec, session: Session) -> Placement:
        """The workers of a run, as Ray resources.

        Raises:
            HardwareError: the run file asks for more than the cluster has, or for something this strategy cannot do.
        """

    def compute_dtype(self, spec: ModelSpec) -> torch.dtype:
        """The type of matrix products.

        Raises:
            SpecError: the run file names a type that this strategy cannot compute in.
        """

    def device_map(self, base: BaseModel, spec: ModelSpec, strategy: Any) -> dict[str, str]:
        """Where each part of the base model is loaded: module names to devices, as `from_pretrained` takes them.

        Raises:
            HardwareError: it does not fit.
        """

    def arguments(self, spec: RunSpec, strategy: Any) -> dict[str, Any]:
        """Further arguments of the trainer."""

    def finish(self, trainer: Any, before: dict[str, Any]) -> None:
        """Called once the trainer is built.

        Args:
            before: the adapter's weights from before it was built, by name.
        """

    def held_bytes(self, model: Any) -> tuple[int, int]:
        """Bytes of frozen weights (four-bit ones, if there are any): on this worker, and of the whole model."""


def load_strategy(strategy: Concrete) -> TrainingStrategy:
    return cast(TrainingStrategy, importlib.import_module(f"training.strategies.{strategy.kind}"))
