"""Layers laid over several GPUs of one worker: each batch walks through them, one card working at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runspec.errors import HardwareError
from runspec.hardware import HardwareSpec
from runspec.model import ModelSpec, Nf4
from runspec.run import RunSpec
from runspec.strategy import DeviceMap
from training.model import BaseModel, skeleton
from training.placement import Placement, one_worker_owns_all
from training.strategies.ddp import compute_dtype, finish, held_bytes

if TYPE_CHECKING:
    from cluster.session import Session

__all__ = ["arguments", "compute_dtype", "device_map", "finish", "held_bytes", "place"]

GIB = 2**30


@dataclass(frozen=True)
class Block:
    """A part of a model that stays on one card: a decoder layer, the embeddings, the head."""

    name: str
    bytes: float


def place(hardware: HardwareSpec, session: Session) -> Placement:
    """One worker with all the GPUs, which have to be of one machine."""
    return one_worker_owns_all(hardware, session)


def device_map(base: BaseModel, spec: ModelSpec, strategy: DeviceMap) -> dict[str, str]:
    """The blocks of the base model over this worker's GPUs; all of it on the CPU where there are none.

    Raises:
        HardwareError: it does not fit.
    """
    import torch

    count = torch.cuda.device_count()
    if count == 0:
        return {"": "cpu"}
    free = [torch.cuda.mem_get_info(card)[0] - strategy.reserve_gib * GIB for card in range(count)]
    model = skeleton(base, spec)
    cards = spread(blocks(model, spec), free)
    for name in tied_heads(model):
        cards[name] = 0  # with the embeddings, whose weights it shares
    return {name: f"cuda:{card}" for name, card in cards.items()}


def blocks(model: Any, spec: ModelSpec) -> list[Block]:
    """The parts of a causal language model in the order that a batch meets them.

    Args:
        model: without weights (`training.model.skeleton`).
    """
    inner, layers = _layers(model)
    path = _path(model, inner)
    found = []
    for name, child in inner.named_children():
        if child is layers:
            found += [Block(f"{path}{name}.{place}", _bytes(layer, spec)) for place, layer in enumerate(layers)]
        else:
            found.append(Block(f"{path}{name}", _bytes(child, spec)))
    apart = [(name, child) for name, child in model.named_children() if child is not inner]
    tied = tied_heads(model)
    return found + [Block(name, _bytes(child, spec)) for name, child in apart if name not in tied]


def tied_heads(model: Any) -> list[str]:
    """The head, where it shares its weights with the embeddings."""
    if not getattr(model.config, "tie_word_embeddings", False):
        return []
    head = model.get_output_embeddings()
    return [name for name, child in model.named_children() if child is head]


def _layers(model: Any) -> tuple[Any, Any]:
    """The module that has the decoder layers as a list, and that list: the longest of all."""
    import torch

    lists = [
        (len(child), inner, child)
        for inner in model.modules()
        for child in inner.children()
        if isinstance(child, torch.nn.ModuleList)
    ]
    _, inner, layers = max(lists, key=lambda each: each[0])
    return inner, layers


def _path(model: Any, inner: Any) -> str:
    name = next(name for name, module in model.named_modules() if module is inner)
    return f"{name}." if name else ""


def _bytes(module: Any, spec: ModelSpec) -> float:
    """Bytes of a module as it will be held: linear layers quantised, everything else in 16 bits."""
    import torch

    linear = {
        id(child.weight)
        for name, child in module.named_modules()
        if isinstance(child, torch.nn.Linear) and name  # the head itself is not quantised
    }
    return sum(each.numel() * (_bytes_a_weight(spec) if id(each) in linear else 2) for each in module.parameters())


def _bytes_a_weight(spec: ModelSpec) -> float:
    """NF4: 4 bits, and a float32 scale a block of 64; doubly quantised, 8 bits a scale and a float32 for 256 scales."""
    if not isinstance(spec.quantization, Nf4):
        return 2
    return (4 + (8 / 64 + 32 / (64 * 256) if spec.quantization.double else 32 / 64)) / 8


def spread(parts: Sequence[Block], free_bytes: Sequence[float]) -> dict[str, int]:
    """Lay blocks over cards in their order, so that the fullest card is as empty as can be. Pure.

    Args:
        parts: in the order that a batch meets them; neighbours share a card where they can, as each border costs a
            transfer of the hidden states.
        free_bytes: of each card.

    Returns:
        The card of each block, by its name.

    Raises:
        HardwareError: they do not fit.
    """
    low, high = 0.0, 1.0
    if _fill(parts, free_bytes, high) is None:
        raise _does_not_fit(parts, free_bytes)
    for _ in range(40):  # the share of each card that may be used: halved until it makes no difference
        middle = (low + high) / 2
        low, high = (low, middle) if _fill(parts, free_bytes, middle) is not None else (middle, high)
    cards = _fill(parts, free_bytes, high)
    assert cards is not None
    return cards


def _fill(parts: Sequence[Block], free_bytes: Sequence[float], share: float) -> dict[str, int] | None:
    """Fill one card after another up to `share` of its free memory; None where blocks are left over."""
    cards: dict[str, int] = {}
    card, used = 0, 0.0
    for part in parts:
        while used + part.bytes > free_bytes[card] * share:
            card, used = card + 1, 0.0
            if card == len(free_bytes):
                return None
        cards[part.name] = card
        used += part.bytes
    return cards


def _does_not_fit(parts: Sequence[Block], free_bytes: Sequence[float]) -> HardwareError:
    whole, free = sum(part.bytes for part in parts) / GIB, [f"{max(0.0, each) / GIB:.1f}" for each in free_bytes]
    return HardwareError(
        f"The base model needs {whole:.1f} GiB, but {len(free)} GPUs have {' + '.join(free)} GiB for weights.",
        where="strategy: device_map",
        fix="Use model.quantization: {kind: nf4}, more or larger GPUs, or a smaller strategy.reserve_gib.",
    )


def arguments(spec: RunSpec, strategy: DeviceMap) -> dict[str, Any]:
    """None: the trainer sees that the model is spread."""
    return {}
