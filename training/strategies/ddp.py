"""DistributedDataParallel: every worker holds the whole model and trains on its share of each batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cluster.machine.session import Session
from runspec.hardware import HardwareSpec
from runspec.model import ModelSpec
from runspec.run import RunSpec
from runspec.strategy import Concrete, Ddp
from training.model import base_model as loading
from training.model.base_model import BaseModel, local_device
from training.strategies.placement import Placement, one_device_each
from training.strategies.weights import keep_adapter_in_float32, whole_bytes

if TYPE_CHECKING:
    import torch


def place(hardware: HardwareSpec, session: Session) -> Placement:
    return one_device_each(hardware, session)


def compute_dtype(spec: ModelSpec) -> torch.dtype:
    return loading.compute_dtype(spec)


def device_map(base: BaseModel, spec: ModelSpec, strategy: Concrete) -> dict[str, str]:
    return {"": local_device()}


def arguments(spec: RunSpec, strategy: Ddp) -> dict[str, Any]:
    return {}


def finish(trainer: Any, before: dict[str, Any]) -> None:
    keep_adapter_in_float32(trainer.model, before)


def held_bytes(model: Any) -> tuple[int, int]:
    whole = whole_bytes(model)
    return whole, whole
