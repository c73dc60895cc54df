"""Fixes vLLM's LoRA operators on CPU: rows of the base model must get no adapter, but got the last one loaded.

In a batch, the slot of a row without an adapter is -1. vLLM's Triton kernels skip such rows; its PyTorch operators,
used on CPU, read the last slot: once all slots are full, a base request in a batch with another tenant's is answered by
that slot's adapter, without an error (https://github.com/vllm-project/vllm/pull/48421 and 49656, both open; seen with
0.32, where every such row was wrong). vLLM imports this module in its workers: `worker_extension_cls`.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.lora.ops.torch_ops import lora_ops
from vllm.lora.punica_wrapper import punica_cpu

_original = lora_ops.bgmv_shrink


def shrink(
    inputs: torch.Tensor, weights: torch.Tensor, output: torch.Tensor, slots: torch.Tensor, scaling: float = 1.0
) -> None:
    """`output = scaling * inputs @ A[slot]`, and zero for rows whose slot is -1.

    Zero rows stay zero: the second half of an adapter multiplies them by B and adds them to the base's output.

    Args:
        inputs: [rows, features].
        weights: [slots, 1, rank, features], A of every slot.
        output: [rows, rank], written to.
        slots: [rows], slot of each row; -1 for the base model.
    """
    _original(inputs, weights, output, slots.clamp(min=0), scaling)
    output.masked_fill_((slots < 0).unsqueeze(1), 0)


# vLLM looks the operator up in its own module, and under the name that the CPU wrapper imported.
_modules: tuple[Any, ...] = (lora_ops, punica_cpu)
for _module in _modules:
    _module.bgmv_shrink = shrink


class WorkerExtension:
    """Adds nothing to vLLM's worker class: it makes vLLM import this module."""
