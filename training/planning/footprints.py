"""Bytes of the parts of a training step: weights, adapter, activations, logits. Pure arithmetic on a model's shape."""

from __future__ import annotations

from dataclasses import dataclass

from runspec.model import Nf4, Quantization, Unquantised
from runspec.run import RunSpec
from runspec.strategy import Concrete
from training.planning.shapes import ModelShape
from training.planning.sites import Site

NUMBER_BYTES = {"float32": 4, "bfloat16": 2}
HEAD_TOKENS, HEAD_VOCABULARY = 4096, 32768
"""TRL computes the loss of SFT, DPO and KTO in tiles of this many tokens and words; the logits are never whole."""


def weight_bytes(quantization: Quantization, number: int) -> float:
    """Bytes of one weight of a linear layer, with its share of the scales.

    NF4 takes 4 bits, and a float32 scale for each block of 64 weights: 4.5 bits. Double-quantised, a scale takes 8
    bits, and 256 of them share a float32: 4.127 bits (https://arxiv.org/abs/2305.14314, section 3).

    Args:
        number: bytes of a number that is not quantised.
    """
    if not isinstance(quantization, Nf4):
        return number
    scale_bits = 8 + 32 / 256 if quantization.double else 32
    return (4 + scale_bits / 64) / 8


CPU_LENGTHS = 16
"""On CPU a batch is padded to a multiple of this many tokens. oneDNN compiles a kernel for every new shape and caches
1,024 of them, 0.9 to 1.7 MiB each (benchmarks/cpu_shapes.py): if every length were a shape of its own, memory would
grow for hundreds of steps."""


@dataclass(frozen=True)
class Weights:
    """The base model's frozen weights, in bytes.

    Attributes:
        linear: the decoder's linear layers; packed, where they are quantised.
        scales: of the quantised blocks.
        outer: embeddings and head, which are never quantised.
        small: norms and biases.
    """

    linear: float
    scales: float
    outer: float
    small: float

    @property
    def whole(self) -> float:
        return self.linear + self.scales + self.outer + self.small


@dataclass(frozen=True)
class Step:
    """What one worker does in one forward and backward pass.

    Attributes:
        shape: the base model's.
        spec: the run file.
        number: bytes of a number that it computes with: 2 or 4.
        on_card: whether it runs on a GPU.
        rows: sequences in one pass: two for each row if answers come in pairs.
        sequence: tokens of the longest: data.max_length, or the model's context.
    """

    shape: ModelShape
    spec: RunSpec
    number: int
    on_card: bool
    rows: int
    sequence: int

    @property
    def tokens(self) -> int:
        """Tokens of the largest batch."""
        return self.rows * self.sequence

    @property
    def loss_tokens(self) -> int:
        """Tokens of the largest batch of the hold-out's loss."""
        batch = self.spec.training.batch_size_per_device
        return loss_batch(batch) * self.rows // batch * self.sequence


def loss_batch(batch_size_per_device: int) -> int:
    """Rows in one batch of the hold-out loss: more than in a training batch, as a forward pass keeps nothing, but no
    more than fit where that batch is trained."""
    return max(batch_size_per_device, min(8, 4 * batch_size_per_device))


def step_of(shape: ModelShape, spec: RunSpec, strategy: Concrete, site: Site) -> Step:
    """The largest pass that a worker of this run makes."""
    rows = spec.training.batch_size_per_device * (2 if spec.method.kind in ("dpo", "orpo") else 1)
    sequence = min(spec.data.max_length, shape.context)
    return Step(shape, spec, number_bytes(spec, strategy, site), site.cards > 0, rows, sequence)


def number_bytes(spec: RunSpec, strategy: Concrete | None, site: Site) -> int:
    """Bytes of a number in matrix products.

    ZeRO-3 keeps four-bit weights as bfloat16, and everything else has to be of that type.
    """
    if strategy is not None and strategy.kind == "zero3" and spec.model.quantization.kind == "nf4":
        return NUMBER_BYTES["bfloat16"]
    if spec.model.dtype != "auto":
        return NUMBER_BYTES[spec.model.dtype]
    return NUMBER_BYTES["bfloat16" if site.multiplies_bfloat16 else "float32"]


def weights_of(shape: ModelShape, spec: RunSpec, number: int, *, quantised: bool = True) -> Weights:
    """The base model's weights as a run holds them.

    Args:
        number: bytes of a number that is not quantised.
        quantised: as `model.quantization` says; False: plain, as evaluation may need them.
    """
    outer, small = float((shape.embedding + shape.head) * number), float(shape.small * number)
    quantization = spec.model.quantization if quantised else Unquantised()
    packed = 0.5 if isinstance(quantization, Nf4) else number
    scales = weight_bytes(quantization, number) - packed
    return Weights(float(shape.linear * packed), shape.linear * scales, outer, small)


def kept_activations(step: Step) -> float:
    """Bytes that a pass keeps for the backward pass, in all layers.

    With gradient checkpointing (https://arxiv.org/abs/1604.06174) each layer's input; without, all that its
    backward pass reads.
    """
    if step.spec.training.gradient_checkpointing:
        return float(step.shape.layers * step.tokens * step.shape.hidden * step.number)
    return step.shape.layers * step.tokens * _saved_a_token(step)


def layer_workspace(step: Step) -> float:
    """Bytes of the layer that the backward pass is in: what it saved, and the gradients passing through it."""
    passing = step.tokens * step.shape.intermediate * (8 + 3 * step.number)
    if not step.spec.training.gradient_checkpointing:
        return float(passing)
    return step.tokens * _saved_a_token(step) + passing


def forward_workspace(step: Step, tokens: int) -> float:
    """Bytes of one layer in a forward pass that keeps nothing."""
    shape = step.shape
    return float(tokens * ((8 + 4 * step.number) * shape.hidden + (4 + 3 * step.number) * shape.intermediate))


def attention_scores(step: Step) -> float:
    """Bytes of the scores of all pairs of tokens, which only eager attention stores."""
    if step.spec.model.attention != "eager":
        return 0.0
    pairs = step.rows * step.sequence**2
    return float(step.shape.heads * pairs * (4 + 2 * step.number))


def head_workspace(step: Step) -> float:
    """Bytes of logits and their gradients: in tiles, or whole for ORPO, whose likelihood is our own code."""
    if step.spec.method.kind == "orpo":
        return float(step.tokens * step.shape.vocabulary * (step.number + 12))
    tile = min(step.tokens, HEAD_TOKENS) * min(step.shape.vocabulary, HEAD_VOCABULARY)
    copies = step.number if step.on_card else step.number + 16  # a Triton kernel works in place, torch makes copies
    return float(tile * copies + step.tokens * step.shape.hidden * 4)


def dequantised(step: Step) -> float:
    """Bytes of the one matrix that is unpacked at a time; 0 if weights are not quantised."""
    return float(step.shape.largest_linear * step.number) if step.spec.model.quantization.kind == "nf4" else 0.0


def _saved_a_token(step: Step) -> float:
    """Bytes a token that the backward pass of one layer reads.

    Two norms keep their input in float32. Frozen weights need no input, but each adapter does, in the compute type,
    with a mask of one byte if there is dropout. Attention keeps q, k, v and its output; the gated unit its two halves
    and their product.
    """
    shape, lora, number = step.shape, step.spec.lora, step.number
    adapted = [shape.linears[name] for name in shape.adapted(lora)]
    inputs = sum(size for size, _ in adapted) * (number + (1 if lora.dropout else 0))
    inner = 2 * lora.rank * number * len(adapted)
    attention = number * 2 * (shape.heads + shape.kv_heads) * shape.head_dim
    return 8 * shape.hidden + inputs + inner + attention + 3 * number * shape.intermediate
