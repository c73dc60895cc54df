"""DistributedDataParallel: every worker holds the whole model and sees its share of each batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runspec.hardware import HardwareSpec
from runspec.model import ModelSpec
from runspec.run import RunSpec
from runspec.strategy import Concrete, Ddp
from training import model as loading
from training.model import BaseModel, local_device
from training.placement import Placement, one_device_each
from training.strategies.weights import keep_adapter_in_float32, whole_bytes

if TYPE_CHECKING:
    import torch

    from cluster.session import Session


def place(hardware: HardwareSpec, session: Session) -> Placement:
    """One GPU, or one share of the CPU cores, for each worker."""
    return one_device_each(hardware, session)


def compute_dtype(spec: ModelSpec) -> torch.dtype:
    """The run file's type, or what the hardware has."""
    return loading.compute_dtype(spec)


def device_map(base: BaseModel, spec: ModelSpec, strategy: Concrete) -> dict[str, str]:
    """All of it on this worker's device."""
    return {"": local_device()}


def arguments(spec: RunSpec, strategy: Ddp) -> dict[str, Any]:
    """None: the trainer does this by itself."""
    return {}


def finish(trainer: Any, before: dict[str, Any]) -> None:
    """The adapter stays in float32."""
    keep_adapter_in_float32(trainer.model, before)


def held_bytes(model: Any) -> tuple[int, int]:
    """All of it."""
    whole = whole_bytes(model)
    return whole, whole
