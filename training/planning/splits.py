"""Which part of a model the fullest card holds where layers are laid over several: the run's own layout, by shape."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from runspec.errors import HardwareError
from training.planning.footprints import Weights
from training.planning.shapes import ModelShape
from training.planning.sites import GIB, Site
from training.strategies.device_map import Block, spread

CONTEXT = 0.5 * GIB
"""What CUDA has taken of a card before the layers are laid out."""


@dataclass(frozen=True)
class Part:
    """A card's part of a model.

    Attributes:
        layers: decoder layers on it.
        of_layers: decoder layers of the model.
        outer: embeddings and head on it, of `of_outer` there are.
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
        """Share of the decoder layers."""
        return self.layers / self.of_layers

    @property
    def outer_share(self) -> float:
        """Share of embeddings and head."""
        return self.outer / self.of_outer

    def weights(self, weights: Weights) -> float:
        """Bytes of the weights on the card."""
        layers = weights.linear + weights.scales + weights.small
        return self.layers_share * layers + self.outer_share * weights.outer


@lru_cache(maxsize=256)  # a plan asks for the same split again with every setting that it tries
def split(shape: ModelShape, weights: Weights, site: Site, reserve_gib: float) -> Part:
    """The part of the card that holds most of the model.

    Args:
        weights: as they are held.
        reserve_gib: memory of each card that is kept free of weights.
    """
    parts = layout(shape, weights, site, reserve_gib) or _evenly(shape, site.cards)
    return max(parts, key=lambda part: part.weights(weights))


def layout(shape: ModelShape, weights: Weights, site: Site, reserve_gib: float) -> list[Part] | None:
    """The part of each card as strategy device_map lays them; None where they do not fit."""
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
    return [_part(shape, [name for name, card in cards.items() if card == one]) for one in range(site.cards)]


def _part(shape: ModelShape, names: list[str]) -> Part:
    outer = sum(name in ("embeddings", "head") for name in names)
    return Part(len(names) - outer, shape.layers, outer, 1 if shape.tied else 2)


def _evenly(shape: ModelShape, cards: int) -> list[Part]:
    """An even share for each card: what a layout would come near to, were there room."""
    of_outer = 1 if shape.tied else 2
    return [Part(-(-shape.layers // cards), shape.layers, 1, of_outer)]
