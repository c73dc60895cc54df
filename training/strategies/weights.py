"""The weights of a model that is being trained: how many bytes a worker holds, and the adapter's type."""

from __future__ import annotations

from typing import Any


def whole_bytes(model: Any) -> int:
    """Bytes of the frozen parameters of a model that is not shared out."""
    return sum(each.numel() * each.element_size() for each in model.parameters() if not each.requires_grad)


def keep_adapter_in_float32(model: Any) -> None:
    """TRL casts the adapter of a quantised model to bfloat16, whose 8 bits lose most of an AdamW update of 1e-4."""
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
