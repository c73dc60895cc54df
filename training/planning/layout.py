"""How the layers of a model are spread over several cards, for loading them (strategy device_map) and for planning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from runspec.errors import HardwareError
from training.planning.footprints import Weights
from training.planning.shapes import ModelShape
from training.planning.sites import GIB, Site

CONTEXT = 0.5 * GIB
"""What CUDA takes of a card before the layers are loaded."""


@dataclass(frozen=True)
class Block:
    """A part of a model that stays on one card: a decoder layer, the embeddings, the head."""

    name: str
    bytes: float


def spread(blocks: Sequence[Block], free_bytes: Sequence[float]) -> dict[str, int]:
    """Spread blocks over cards in their order, so that the fullest card has as much room left as possible. Pure.

    Args:
        blocks: in the order that a batch goes through them; neighbours share a card where they can, as each border
            costs a transfer of the hidden states.
        free_bytes: of each card.

    Returns:
        The card of each block, by its name.

    Raises:
        HardwareError: they do not fit.
    """
    cards = _fill(blocks, free_bytes, 1.0)
    if cards is None:
        whole, free = sum(block.bytes for block in blocks) / GIB, [f"{max(0.0, each) / GIB:.1f}" for each in free_bytes]
        raise HardwareError(
            f"The base model needs {whole:.1f} GiB, but {len(free)} GPUs have {' + '.join(free)} GiB for weights.",
            where="strategy: device_map",
            fix="Use model.quantization: {kind: nf4}, more or larger GPUs, or a smaller strategy.reserve_gib.",
        )
    low, high = 0.0, 1.0
    for _ in range(40):  # bisects the share of each card that is used
        middle = (low + high) / 2
        found = _fill(blocks, free_bytes, middle)
        if found is None:
            low = middle
        else:
            high, cards = middle, found
    return cards


def _fill(blocks: Sequence[Block], free_bytes: Sequence[float], share: float) -> dict[str, int] | None:
    """Fill one card after another up to `share` of its free memory; None if blocks are left over."""
    cards: dict[str, int] = {}
    card, used = 0, 0.0
    for block in blocks:
        while used + block.bytes > free_bytes[card] * share:
            card, used = card + 1, 0.0
            if card == len(free_bytes):
                return None
        cards[block.name] = card
        used += block.bytes
    return cards


@dataclass(frozen=True)
class Part:
    """A card's part of a model.

    Attributes:
        layers: decoder layers on it, out of `of_layers`.
        outer: embeddings and head on it, out of `of_outer`: 1 where they share weights, else 2.
    """

    layers: int
    of_layers: int
    outer: int
    of_outer: int

    @staticmethod
    def whole(shape: ModelShape) -> Part:
        """All of it on one card."""
        outer = 1 if shape.tied else 2
        return Part(shape.layers, shape.layers, outer, outer)

    @property
    def layers_share(self) -> float:
        return self.layers / self.of_layers

    @property
    def outer_share(self) -> float:
        return self.outer / self.of_outer

    def weights(self, weights: Weights) -> float:
        """Bytes of the weights on the card."""
        layers = weights.linear + weights.scales + weights.small
        return self.layers_share * layers + self.outer_share * weights.outer


@lru_cache(maxsize=256)  # a plan asks for the same layout again with every setting that it tries
def fullest_part(shape: ModelShape, weights: Weights, site: Site, reserve_gib: float) -> Part:
    """The part of the card that holds most of the model; where it does not fit, an even share.

    Args:
        weights: as they are held.
        reserve_gib: memory of each card that is kept free of weights.
    """
    even = Part(-(-shape.layers // site.cards), shape.layers, 1, 1 if shape.tied else 2)
    parts = parts_of(shape, weights, site, reserve_gib) or [even]
    return max(parts, key=lambda part: part.weights(weights))


def parts_of(shape: ModelShape, weights: Weights, site: Site, reserve_gib: float) -> list[Part] | None:
    """The part of each card as the strategy device_map lays it out; None if the model does not fit."""
    outer = 1 if shape.tied else 2
    a_layer = (weights.linear + weights.scales + weights.small) / shape.layers
    blocks = [Block("embeddings", weights.outer / outer)]
    blocks += [Block(str(layer), a_layer) for layer in range(shape.layers)]
    blocks += [] if shape.tied else [Block("head", weights.outer / outer)]
    free = [max(0.0, site.card_bytes - CONTEXT - reserve_gib * GIB)] * site.cards
    try:
        cards = spread(blocks, free)
    except HardwareError:
        return None
    parts = []
    for one in range(site.cards):
        names = [name for name, card in cards.items() if card == one]
        outer_here = sum(name in ("embeddings", "head") for name in names)
        parts.append(Part(len(names) - outer_here, shape.layers, outer_here, outer))
    return parts
