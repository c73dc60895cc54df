"""One worker with its layers spread over several GPUs: a batch passes through them, one card working at a time."""

from __future__ import annotations

from typing import Any

from cluster.machine.session import Session
from runspec.hardware import HardwareSpec
from runspec.model import ModelSpec
from runspec.run import RunSpec
from runspec.strategy import DeviceMap
from training.model.base_model import BaseModel, skeleton
from training.planning.footprints import NUMBER_BYTES, weight_bytes
from training.planning.layout import Block, spread
from training.planning.sites import GIB
from training.strategies.ddp import compute_dtype, finish, held_bytes
from training.strategies.placement import Placement, one_worker_owns_all

__all__ = ["arguments", "compute_dtype", "device_map", "finish", "held_bytes", "place"]


def place(hardware: HardwareSpec, session: Session) -> Placement:
    return one_worker_owns_all(hardware, session)


def device_map(base: BaseModel, spec: ModelSpec, strategy: DeviceMap) -> dict[str, str]:
    """The blocks of the base model over this worker's GPUs; all of it on the CPU if there are none.

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
    """The parts of a causal language model in the order that a batch goes through them.

    Args:
        model: without weights (`training.model.base_model.skeleton`).
    """
    import torch

    lists = [
        (f"{path}." if path else "", inner, child)
        for path, inner in model.named_modules()
        for child in inner.children()
        if isinstance(child, torch.nn.ModuleList)
    ]
    path, inner, layers = max(lists, key=lambda each: len(each[2]))  # the decoder layers are the longest list
    found = []
    for name, child in inner.named_children():
        if child is layers:
            found += [Block(f"{path}{name}.{index}", _bytes(layer, spec)) for index, layer in enumerate(layers)]
        else:
            found.append(Block(f"{path}{name}", _bytes(child, spec)))
    apart = [(name, child) for name, child in model.named_children() if child is not inner]
    tied = tied_heads(model)
    return found + [Block(name, _bytes(child, spec)) for name, child in apart if name not in tied]


def tied_heads(model: Any) -> list[str]:
    """The head's name, if it shares its weights with the embeddings."""
    if not getattr(model.config, "tie_word_embeddings", False):
        return []
    head = model.get_output_embeddings()
    return [name for name, child in model.named_children() if child is head]


def _bytes(module: Any, spec: ModelSpec) -> float:
    """Bytes of a module as it will be held: linear layers quantised, everything else in 16 bits."""
    import torch

    number = NUMBER_BYTES["bfloat16"]
    quantised = weight_bytes(spec.quantization, number)
    linear = {
        id(child.weight)
        for name, child in module.named_modules()
        if isinstance(child, torch.nn.Linear) and name  # the head itself is not quantised
    }
    return sum(each.numel() * (quantised if id(each) in linear else number) for each in module.parameters())


def arguments(spec: RunSpec, strategy: DeviceMap) -> dict[str, Any]:
    """None: the trainer sees that the model is spread."""
    return {}
