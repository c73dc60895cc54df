"""The shape of a dense decoder: its dimensions from a config.json, and the parameters that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runspec.errors import ModelError
from runspec.lora import LoraSpec
from runspec.strict import Strict

FAMILIES = {
    "llama": "",
    "mistral": "",
    "qwen2": "qkv_bias",
    "qwen3": "qk_norm",
    "phi3": "fused",
    "gemma": "tied",
    "gemma2": "tied four_norms",
    "gemma3_text": "tied four_norms qk_norm",
}
"""`model_type` of each family that is covered, and how it differs from Llama: biases on q, k and v; norms on q and k;
q, k, v fused into one matrix, and gate, up into another; tied embeddings unless config.json says otherwise; four norms
a layer."""


class ModelShape(Strict):
    """What a dense decoder's memory and work depend on; dimensions are counts of numbers."""

    label: str
    """What a person calls the model."""
    family: str
    """`model_type` of its config.json."""
    hidden: int
    """Width of the residual stream."""
    layers: int
    """Decoder layers."""
    intermediate: int
    """Width between the two halves of the feed-forward block."""
    heads: int
    """Query heads."""
    kv_heads: int
    """Key and value heads; fewer than `heads` with grouped-query attention (https://arxiv.org/abs/2305.13245)."""
    head_dim: int
    """Width of one head."""
    vocabulary: int
    """Tokens in the embeddings."""
    tied: bool
    """The head shares its weights with the embeddings."""
    context: int
    """Longest sequence, in tokens."""
    linear_biases: tuple[str, ...] = ()
    """Linear layers with a bias."""

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of each linear layer of one decoder layer, by name."""
        q, kv, f = self.heads * self.head_dim, self.kv_heads * self.head_dim, self.intermediate
        if "fused" in FAMILIES[self.family]:
            attention = {"qkv_proj": (self.hidden, q + 2 * kv), "o_proj": (q, self.hidden)}
            return {**attention, "gate_up_proj": (self.hidden, 2 * f), "down_proj": (f, self.hidden)}
        return {
            "q_proj": (self.hidden, q),
            "k_proj": (self.hidden, kv),
            "v_proj": (self.hidden, kv),
            "o_proj": (q, self.hidden),
            "gate_proj": (self.hidden, f),
            "up_proj": (self.hidden, f),
            "down_proj": (f, self.hidden),
        }

    @property
    def layer_linear(self) -> int:
        """Parameters in the linear layers of one decoder layer, without biases."""
        return sum(inputs * outputs for inputs, outputs in self.linears.values())

    @property
    def linear(self) -> int:
        """Parameters in the linear layers of all decoder layers: what quantisation makes smaller."""
        return self.layers * self.layer_linear

    @property
    def largest_linear(self) -> int:
        """Parameters of the largest single matrix of a decoder layer."""
        return max(inputs * outputs for inputs, outputs in self.linears.values())

    @property
    def embedding(self) -> int:
        """Parameters of the embeddings; the head has as many again where it is not tied."""
        return self.vocabulary * self.hidden

    @property
    def head(self) -> int:
        """Parameters of the head beyond the embeddings: none where it is tied to them."""
        return 0 if self.tied else self.embedding

    @property
    def layer_small(self) -> int:
        """Parameters of one decoder layer that are neither quantised nor adapted: norms and biases."""
        kind = FAMILIES[self.family]
        norms = (4 if "four_norms" in kind else 2) * self.hidden + (2 * self.head_dim if "qk_norm" in kind else 0)
        return norms + sum(self.linears[name][1] for name in self.linear_biases)

    @property
    def small(self) -> int:
        """Parameters of all norms and biases, the last norm with them."""
        return self.layers * self.layer_small + self.hidden

    @property
    def parameters(self) -> int:
        return self.linear + self.embedding + self.head + self.small

    def adapted(self, lora: LoraSpec) -> tuple[str, ...]:
        """The linear layers that get an adapter.

        Raises:
            ModelError: the model has no such layer.
        """
        if isinstance(lora.targets, str):
            return tuple(self.linears)
        missing = [target for target in lora.targets if target not in self.linears]
        if missing:
            raise ModelError(
                f"{self.label} has no linear layer named `{missing[0]}`.",
                where="lora.targets",
                fix=f"Choose from {', '.join(self.linears)}; or set lora.targets: all-linear.",
            )
        return lora.targets

    def adapter(self, lora: LoraSpec) -> int:
        """Parameters of an adapter: rank x (inputs + outputs) of each target (https://arxiv.org/abs/2106.09685); DoRA
        adds a magnitude for each output (https://arxiv.org/abs/2402.09353).

        Raises:
            ModelError: the model has no such layer.
        """
        sizes = [self.linears[name] for name in self.adapted(lora)]
        return self.layers * sum(lora.rank * (a + b) + (b if lora.dora else 0) for a, b in sizes)


def shape_from_config(config: Mapping[str, Any], *, label: str, where: str) -> ModelShape:
    """Read a shape from a config.json.

    Args:
        config: its content.
        label: what a person calls the model.
        where: for messages: the file, or the key that names the model.

    Raises:
        ModelError: it is a mixture of experts, its family is not covered, or a dimension is missing.
    """
    text = config.get("text_config")  # of a model that also reads images
    config = text if isinstance(text, Mapping) else config
    family = config.get("model_type")
    experts = [key for key in ("num_local_experts", "num_experts", "n_routed_experts") if config.get(key)]
    if experts:
        raise ModelError(
            f"{label} is a mixture of experts ({experts[0]}: {config[experts[0]]}), which the memory model does not "
            "cover.",
            where=where,
            fix="Plan a dense model. You can still train this one, without a plan.",
        )
    if family not in FAMILIES:
        raise ModelError(
            f"{label} belongs to the family `{family}`, which the memory model does not cover.",
            where=f"{where}: model_type",
            fix=f"It covers {', '.join(FAMILIES)}. You can still train this model, without a plan.",
        )
    hidden, heads = _count(config, "hidden_size", where), _count(config, "num_attention_heads", where)
    tied_by_default = "tied" in FAMILIES[family]
    return ModelShape(
        label=label,
        family=family,
        hidden=hidden,
        layers=_count(config, "num_hidden_layers", where),
        intermediate=_count(config, "intermediate_size", where),
        heads=heads,
        kv_heads=_count(config, "num_key_value_heads", where, default=heads),
        head_dim=_count(config, "head_dim", where, default=max(1, hidden // heads)),
        vocabulary=_count(config, "vocab_size", where),
        tied=bool(config.get("tie_word_embeddings", tied_by_default)),
        context=_count(config, "max_position_embeddings", where, default=2048),
        linear_biases=_biases(config, family),
    )


def _biases(config: Mapping[str, Any], family: str) -> tuple[str, ...]:
    attention = ("q_proj", "k_proj", "v_proj")
    if "qkv_bias" in FAMILIES[family]:
        return attention
    biased = (*attention, "o_proj") if config.get("attention_bias") else ()
    return (*biased, *(("gate_proj", "up_proj", "down_proj") if config.get("mlp_bias") else ()))


def _count(config: Mapping[str, Any], key: str, where: str, *, default: int | None = None) -> int:
    value = config.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        found = f"`{key}` is missing" if value is None else f"`{key}` is {value!r}, not a whole number above 0"
        raise ModelError(
            f"The model's config cannot be used: {found}.",
            where=f"{where}: {key}",
            fix="Copy the model's config.json again, or pass another one with --config.",
        )
    return value
