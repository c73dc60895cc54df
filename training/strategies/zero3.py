"""DeepSpeed ZeRO stage 3: the weights are sharded, and gathered layer by layer as they are needed.

Four-bit weights are kept as bfloat16 so that ZeRO-3 can shard them like any other parameter; their scales stay whole
on each worker (0.127 bit a weight with double quantisation).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cluster.machine.session import Session
from runspec.errors import SpecError
from runspec.hardware import HardwareSpec
from runspec.model import ModelSpec
from runspec.run import RunSpec
from runspec.strategy import Zero3
from training.model import base_model as loading
from training.model.base_model import BaseModel, local_device
from training.strategies.placement import Placement, one_device_each
from training.strategies.weights import frozen_weights
from training.strategies.zero import check_deepspeed, deepspeed_config, save_the_adapter_alone

if TYPE_CHECKING:
    import torch


def place(hardware: HardwareSpec, session: Session) -> Placement:
    check_deepspeed()
    return one_device_each(hardware, session)


def compute_dtype(spec: ModelSpec) -> torch.dtype:
    """bfloat16 for four-bit weights, whatever the hardware: all weights have to be of the type they are stored in.

    Raises:
        SpecError: the run file names another type.
    """
    import torch

    if spec.quantization.kind == "none":
        return loading.compute_dtype(spec)
    if spec.dtype == "float32":
        raise SpecError(
            "strategy.kind is zero3 and model.quantization.kind is nf4, whose packed weights are kept as bfloat16, "
            "but model.dtype is float32: ZeRO-3 shards weights of one type only.",
            where="model.dtype",
            fix="Set model.dtype: auto, or model.quantization: {kind: none}.",
        )
    return torch.bfloat16


def device_map(base: BaseModel, spec: ModelSpec, strategy: Zero3) -> dict[str, str]:
    """All weights go to host memory first: each worker reads the whole model, and perhaps no card can hold it.

    `finish` then moves them to the cards one parameter at a time, and each worker keeps its shard.
    """
    return {"": "cpu"}


def arguments(spec: RunSpec, strategy: Zero3) -> dict[str, Any]:
    """DeepSpeed's configuration, and the kind of gradient checkpointing that gathers weights again."""
    import torch

    bf16 = compute_dtype(spec.model) == torch.bfloat16
    found: dict[str, Any] = {"deepspeed": deepspeed_config(strategy, bf16=bf16, gpu=torch.cuda.is_available())}
    if spec.training.gradient_checkpointing:
        found["gradient_checkpointing_kwargs"] = {"use_reentrant": True}
    return found


def finish(trainer: Any, before: dict[str, Any]) -> None:
    """Shard the weights, and move the scales to the card, which are no parameters and so unknown to DeepSpeed."""
    _shard(trainer)
    for module in trainer.model.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None:
            state.to(local_device())
    save_the_adapter_alone(trainer)


def _shard(trainer: Any) -> None:
    """Move the weights to the cards one parameter at a time, each worker keeping its shard.

    DeepSpeed's engine shards a whole model only after moving all of it to each card (`_configure_distributed_model`,
    deepspeed 0.19.8; https://github.com/huggingface/peft/issues/1844): 37 GiB of a 70B model in four bits. It leaves a
    model alone whose parameters are sharded already.
    """
    import deepspeed
    import torch

    config = trainer.args.hf_deepspeed_config.config
    dtype = torch.bfloat16 if config["bf16"]["enabled"] else torch.float32
    for parameter in trainer.model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    deepspeed.init_distributed(dist_backend=torch.distributed.get_backend(), auto_mpi_discovery=False)
    deepspeed.zero.Init(module=trainer.model, config_dict_or_path=config, dtype=dtype)


def held_bytes(model: Any) -> tuple[int, int]:
    """This worker's share, and the whole, of the frozen weights. Valid once DeepSpeed has sharded them."""
    frozen = frozen_weights(model)
    held = sum(each.ds_tensor.numel() * each.ds_tensor.element_size() for each in frozen)
    return held, sum(each.ds_numel * each.element_size() for each in frozen)
