"""What the two ZeRO strategies share: DeepSpeed's configuration, and saving the adapter from its shards."""

from __future__ import annotations

import importlib.util
from typing import Any

from runspec.errors import HardwareError
from runspec.strategy import Zero2, Zero3
from training.planning.memory import LIVE, PREFETCH, REDUCE


def check_deepspeed() -> None:
    """Raises HardwareError if DeepSpeed is not installed."""
    if importlib.util.find_spec("deepspeed") is None:
        raise HardwareError(
            "The strategies zero2 and zero3 need DeepSpeed, which is not installed.",
            where="strategy.kind",
            fix="Run: make setup; or set strategy: {kind: ddp}.",
        )


def deepspeed_config(strategy: Zero2 | Zero3, *, bf16: bool, gpu: bool) -> dict[str, Any]:
    """The configuration; transformers' Trainer fills in `auto` from its own arguments.

    Args:
        bf16: weights, gradients and communication in bfloat16; the optimizer keeps a float32 copy of the adapter.
        gpu: transfers can overlap with computation.
    """
    stage = 3 if isinstance(strategy, Zero3) else 2
    zero: dict[str, Any] = {"stage": stage, "overlap_comm": gpu, "reduce_bucket_size": REDUCE}
    if stage == 3:
        zero |= {"stage3_prefetch_bucket_size": PREFETCH}
        zero |= {"stage3_max_live_parameters": LIVE, "stage3_max_reuse_distance": LIVE}
    else:
        zero["allgather_bucket_size"] = REDUCE
    if strategy.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": gpu}
    if isinstance(strategy, Zero3) and strategy.offload_parameters:
        zero["offload_param"] = {"device": "cpu", "pin_memory": gpu}
    return {
        "zero_optimization": zero,
        "bf16": {"enabled": bf16},
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        # torch's AdamW handles offloaded states; DeepSpeed's own would be compiled at the first step.
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
    }


def save_the_adapter_alone(trainer: Any) -> None:
    """Make checkpoints hold the adapter in float32, as every other strategy's do, and never the base model.

    transformers would write the bfloat16 weights that DeepSpeed computes with, and under ZeRO-2 clone the base first.
    """

    def save_model(output_dir: str | None = None, _internal_call: bool = False) -> None:
        weights = adapter_weights(trainer.deepspeed)
        if trainer.args.should_save:
            trainer._save(output_dir or trainer.args.output_dir, state_dict=weights)

    trainer.save_model = save_model


def adapter_weights(engine: Any) -> dict[str, Any]:
    """The adapter's weights from the optimizer's float32 copy; every rank has to call it.

    Args:
        engine: DeepSpeed's, around a PEFT model.
    """
    from deepspeed.utils import safe_get_full_fp32_param

    trained = [(name, each) for name, each in engine.module.named_parameters() if each.requires_grad]
    return {name: safe_get_full_fp32_param(each).detach().cpu().clone() for name, each in trained}
