"""The adapter: low-rank matrices beside the frozen weights (https://arxiv.org/abs/2106.09685)."""

from typing import Literal

from pydantic import Field

from runspec.publish import REFERENCE_PATTERN
from runspec.strict import Strict

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoraSpec(Strict):
    """Shape of the adapter."""

    rank: int = Field(default=16, ge=1, le=512)
    """Inner dimension of the update."""
    alpha: float = Field(default=32, gt=0)
    """Scale: the update is multiplied by alpha / rank (by alpha / sqrt(rank) with rsLoRA)."""
    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Dropout on the adapter's input while training."""
    targets: tuple[str, ...] | Literal["all-linear"] = LINEAR_LAYERS
    """Names of the modules that get an adapter, or `all-linear`."""
    rslora: bool = False
    """Rank-stabilised scaling (https://arxiv.org/abs/2312.03732)."""
    dora: bool = False
    """Weight-decomposed LoRA (https://arxiv.org/abs/2402.09353). vLLM cannot serve it: needs `publish: null`."""
    start_from: str | None = Field(default=None, pattern=REFERENCE_PATTERN)
    """An adapter of the store's registry to go on training: `name`, `name@alias` or `name@3`; the version is pinned
    when the run begins. Rank, alpha, rsLoRA and targets have to be its own. Null: a new adapter that changes nothing
    yet."""
