"""Arguments of transformers' Trainer that every method shares, from the run file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed

from runspec.run import RunSpec
from training.planning.footprints import CPU_LENGTHS, loss_batch


def training_arguments(spec: RunSpec, *, folder: Path, holdout: bool, bf16: bool, world_size: int) -> dict[str, Any]:
    """Arguments for a TRL configuration; checkpoints go to `folder`.

    Args:
        holdout: whether a loss is measured at each checkpoint.
        bf16: compute under bfloat16 autocast.
        world_size: workers that share a batch. If one replaces the run file's several (`device_map` under `auto`), it
            accumulates for all of them, so that the global batch stays the same.
    """
    training = spec.training
    return {
        "output_dir": str(folder),
        "learning_rate": training.learning_rate,
        "per_device_train_batch_size": training.batch_size_per_device,
        "per_device_eval_batch_size": loss_batch(training.batch_size_per_device),
        "gradient_accumulation_steps": training.gradient_accumulation * max(1, spec.hardware.workers // world_size),
        "num_train_epochs": training.epochs,
        "max_steps": training.max_steps or -1,
        "lr_scheduler_type": training.schedule,
        "warmup_steps": training.warmup_ratio,  # a share below 1 is a ratio (transformers 5)
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "gradient_checkpointing": training.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "save_strategy": "steps",
        "save_steps": training.checkpoint_every_steps,
        "save_total_limit": 1,
        "eval_strategy": "steps" if holdout else "no",
        "eval_steps": training.checkpoint_every_steps if holdout else None,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "include_num_input_tokens_seen": "non_padding",
        "bf16": bf16,
        "fp16": False,
        "use_cpu": not torch.cuda.is_available(),
        "ddp_backend": torch.distributed.get_backend() if torch.distributed.is_initialized() else None,
        "ddp_find_unused_parameters": False,
        "seed": spec.seed,
        "data_seed": spec.seed,
        "disable_tqdm": True,
        "report_to": "none",
        "dataloader_num_workers": 0,
        "pad_to_multiple_of": None if torch.cuda.is_available() else CPU_LENGTHS,
    }
