"""DeepSpeed ZeRO stage 2: each worker holds the whole model, and a share of gradients and optimizer states."""

from __future__ import annotations

from typing import Any

from cluster.machine.session import Session
from runspec.hardware import HardwareSpec
from runspec.run import RunSpec
from runspec.strategy import Zero2
from training.strategies.ddp import compute_dtype, device_map, held_bytes
from training.strategies.placement import Placement, one_device_each
from training.strategies.zero import check_deepspeed, deepspeed_config, save_the_adapter_alone

__all__ = ["arguments", "compute_dtype", "device_map", "finish", "held_bytes", "place"]


def place(hardware: HardwareSpec, session: Session) -> Placement:
    check_deepspeed()
    return one_device_each(hardware, session)


def arguments(spec: RunSpec, strategy: Zero2) -> dict[str, Any]:
    import torch

    bf16 = compute_dtype(spec.model) == torch.bfloat16
    return {"deepspeed": deepspeed_config(strategy, bf16=bf16, gpu=torch.cuda.is_available())}


def finish(trainer: Any, before: dict[str, Any]) -> None:
    save_the_adapter_alone(trainer)
