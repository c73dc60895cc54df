"""The weights of a model that is being trained: how many bytes a worker holds, and the adapter's type."""

from __future__ import annotations

from typing import Any


def frozen_weights(model: Any) -> list[Any]:
    """The four-bit parameters of a model; all frozen ones of a model that is not quantised."""
    frozen = [each for each in model.parameters() if not each.requires_grad]
    return [each for each in frozen if hasattr(each, "quant_state")] or frozen


def whole_bytes(model: Any) -> int:
    """Bytes of the frozen weights of a model that is not shared out."""
    return sum(each.numel() * each.element_size() for each in frozen_weights(model))


def keep_adapter_in_float32(model: Any) -> None:
    """TRL casts the adapter of a quantised model to bfloat16, whose 8 bits lose most of an AdamW update of 1e-4."""
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
