"""The weights of a model in training: how many bytes a worker holds, and the adapter's type."""

from __future__ import annotations

from typing import Any


def frozen_weights(model: Any) -> list[Any]:
    """The four-bit parameters of a model, or all frozen ones if it is not quantised."""
    frozen = [each for each in model.parameters() if not each.requires_grad]
    return [each for each in frozen if hasattr(each, "quant_state")] or frozen


def whole_bytes(model: Any) -> int:
    """Bytes of the frozen weights of a model that is not sharded."""
    return sum(each.numel() * each.element_size() for each in frozen_weights(model))


def adapter_weights(model: Any) -> dict[str, Any]:
    """A copy of the trainable parameters, by name."""
    return {name: each.detach().clone() for name, each in model.named_parameters() if each.requires_grad}


def keep_adapter_in_float32(model: Any, before: dict[str, Any]) -> None:
    """Undo TRL's cast of a quantised model's adapter to bfloat16, whose 8 bits lose most of an AdamW update of 1e-4.

    Args:
        before: `adapter_weights` from before the trainer was built: an adapter that was trained before would lose
            precision to bfloat16, and no longer equal the reference that TRL copied from it.
    """
    import torch

    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data = before[name].to(torch.float32)
