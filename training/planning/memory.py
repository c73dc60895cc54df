"""The memory model: what a run holds on each card and on the host in each of its phases, as named terms in bytes.

The terms of one phase add up to its peak: none is hidden in a factor. Constants that were measured say where.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from runspec.run import RunSpec
from runspec.strategy import Concrete, DeviceMap, Zero2, Zero3
from runspec.strict import Strict
from training.planning.footprints import (
    CPU_LENGTHS,
    NUMBER_BYTES,
    Step,
    Weights,
    attention_scores,
    dequantised,
    forward_workspace,
    head_workspace,
    kept_activations,
    layer_workspace,
    number_bytes,
    step_of,
    weights_of,
)
from training.planning.layout import CONTEXT, Part, fullest_part
from training.planning.shapes import ModelShape
from training.planning.sites import GIB, Site

PhaseName = Literal["loading", "training", "hold-out loss", "evaluating"]
REDUCE = 50_000_000
"""Gradients in one buffer of DeepSpeed, which the strategies configure. Its own default of 5e8 would take 1 GB of a
card, twice that under ZeRO-2, for an adapter with a few hundred million gradients in all."""
PREFETCH = 50_000_000
"""Parameters that ZeRO-3 gathers ahead (DeepSpeed's default)."""
LIVE = 1_000_000_000
"""Parameters that ZeRO-3 keeps gathered at most, unless a single matrix is larger (DeepSpeed's default)."""
NCCL = 0.3 * GIB
"""NCCL's buffers if there are several workers. Assumed."""
FRAGMENTS = 0.05
"""Share of a card that torch's allocator loses between tensors. Assumed."""
CARD_WORKER = 3.0 * GIB
"""Main memory of a worker process that computes on a GPU: torch with CUDA, transformers, the trainer. Assumed."""
CPU_WORKER = 0.85 * GIB
"""Main memory of a worker process on CPU before it holds a model: 0.6 GiB were measured after the imports. With this
figure the prediction for the demo's worker is within 10 % of the 1.45 GiB that it took in its steps, and of 1.65 GiB
with the hold-out loss."""
DRIVER = 1.5 * GIB
"""Main memory of the driver and of Ray's own processes."""
ALLOCATOR = 0.15
"""Share that the C allocator loses between tensors on CPU. Assumed."""
KERNEL = 0.9 * 2**20
"""One compiled oneDNN kernel for lengths up to 256; 1.7 MiB up to 512 (benchmarks/cpu_shapes.py)."""
KERNELS_PER_LENGTH, KERNELS_CACHED = 25, 1024
"""Kernels for one length of a batch, forward and backward, counted by the shapes of a Llama's matrices and their LoRA
factors; and how many oneDNN keeps."""
EVALUATION_LOGITS = 2**25 * 4
"""Logits of an evaluation's batch that are kept at once."""


class Term(Strict):
    """One part of a peak."""

    name: str
    bytes: int
    why: str
    """Where it comes from, in one line."""
    measured: bool = True
    """Whether the memory that a worker reports includes it: CUDA's context is not torch's."""


class Phase(Strict):
    """What is held at the same time in one phase of a run."""

    name: PhaseName
    card: tuple[Term, ...]
    """On the fullest card; empty on CPU."""
    host: tuple[Term, ...]
    """In the memory of the machine, all workers together."""

    @property
    def card_bytes(self) -> int:
        return sum(term.bytes for term in self.card)

    @property
    def host_bytes(self) -> int:
        return sum(term.bytes for term in self.host)


class MemoryNeed(Strict):
    """What a run holds, phase by phase."""

    phases: tuple[Phase, ...]
    worker_bytes: int
    """What the largest worker will report while training: its card without CUDA's context, or its process."""

    @property
    def card_bytes(self) -> int:
        """Peak of the fullest card over all phases."""
        return max(phase.card_bytes for phase in self.phases)

    @property
    def host_bytes(self) -> int:
        """Peak of the machine's memory over all phases."""
        return max(phase.host_bytes for phase in self.phases)


@dataclass(frozen=True)
class _Case:
    """One run on one hardware, and what follows from the two at once.

    Attributes:
        workers: processes that train.
        shards: number of workers over which ZeRO-3 shards the weights; 1 for other strategies.
        adapter: parameters of the adapter.
        part: what the fullest card holds of the model: all of it, except under device_map.
        prompt: tokens of the longest prompt and answer of an evaluation.
    """

    shape: ModelShape
    spec: RunSpec
    strategy: Concrete
    site: Site
    step: Step
    weights: Weights
    workers: int
    shards: int
    adapter: int
    part: Part
    prompt: int


def memory_of(
    shape: ModelShape, spec: RunSpec, strategy: Concrete, site: Site, *, row_tokens: int | None = None
) -> MemoryNeed:
    """Predict the memory of a run.

    Args:
        shape: the base model's.
        strategy: how it is spread; `auto` is decided before.
        site: on which hardware.
        row_tokens: length of the longest row, for the prompts of an evaluation; None: data.max_length.

    Raises:
        ModelError: lora.targets names no layer of the model.
    """
    step = step_of(shape, spec, strategy, site)
    workers = 1 if isinstance(strategy, DeviceMap) else site.workers
    weights = weights_of(shape, spec, step.number)
    part = Part.whole(shape)
    if isinstance(strategy, DeviceMap) and site.cards > 1:
        part = fullest_part(shape, weights, site, strategy.reserve_gib)
    longest = min(step.sequence, row_tokens or step.sequence)
    shots = spec.evaluation.few_shot * (row_tokens or step.sequence // 4)
    case = _Case(
        shape=shape,
        spec=spec,
        strategy=strategy,
        site=site,
        step=step,
        weights=weights,
        workers=workers,
        shards=workers if isinstance(strategy, Zero3) else 1,
        adapter=shape.adapter(spec.lora),
        part=part,
        prompt=min(shape.context, longest + shots + spec.evaluation.max_new_tokens),
    )
    phases = [_loading(case), _training(case)]
    if spec.training.holdout_loss_rows:
        phases.append(_holdout_loss(case))
    phases.append(_evaluating(case))
    return MemoryNeed(phases=tuple(phases), worker_bytes=_worker_bytes(phases[:-1], case))


def _worker_bytes(phases: list[Phase], case: _Case) -> int:
    if case.site.cards:
        return max(sum(term.bytes for term in phase.card if term.measured) for phase in phases)
    loading, *later = [sum(term.bytes for term in phase.host if term.measured) // case.workers for phase in phases]
    # A process counts the pages of files it reads as its own, though the system can take them back.
    return max(loading + case.shape.parameters * 2, *later)


def _phase(name: PhaseName, case: _Case, terms: list[Term], host: list[Term], workers: int) -> Phase:
    """On GPUs the terms are on the card and the processes on the host; on CPU all are on the host, for each worker."""
    if case.site.cards:
        own = _term("CUDA context", CONTEXT, "torch's and bitsandbytes' kernels on each card (assumed)", measured=False)
        talk = [_term("NCCL", NCCL, "buffers between workers (assumed)", measured=False)] if workers > 1 else []
        gaps = _term("fragments", FRAGMENTS * sum(term.bytes for term in terms), "5 % of the above, between tensors")
        processes = _term("processes", workers * CARD_WORKER, f"{workers} x 3 GiB: torch with CUDA, transformers")
        return Phase(name=name, card=_nonzero([*terms, gaps, own, *talk]), host=_nonzero([processes, _driver(), *host]))
    each = [_term("process", CPU_WORKER, "torch, transformers, the trainer"), *terms]
    if name in ("training", "hold-out loss") and case.step.number == NUMBER_BYTES["bfloat16"]:
        lengths = -(-case.step.sequence // CPU_LENGTHS)
        kernels = min(KERNELS_CACHED, lengths * KERNELS_PER_LENGTH)
        each.append(_term("kernels", kernels * KERNEL, f"{kernels} oneDNN kernels for {lengths} lengths of a batch"))
    gaps = _term("allocator", ALLOCATOR * sum(term.bytes for term in terms), "15 % of the tensors, between them")
    times = f"{workers} x " if workers > 1 else ""
    scaled = [_term(term.name, workers * term.bytes, times + term.why) for term in [*each, gaps]]
    return Phase(name=name, card=(), host=_nonzero([*scaled, *host, _driver()]))


def _driver() -> Term:
    return _term("driver", DRIVER, "the driver and Ray's own processes", measured=False)


def _loading(case: _Case) -> Phase:
    quantised = case.spec.model.quantization.kind == "nf4"
    passing = _term(
        "matrix being quantised",
        2 * case.shape.largest_linear * case.step.number if quantised else 0,
        "the largest one, twice: transformers reads and quantises one after another",
    )
    if isinstance(case.strategy, Zero3) and case.site.cards:
        # Not onto the cards: perhaps none of them can hold it.
        whole = _term(
            "whole model, each worker",
            case.workers * case.weights.whole,
            f"each of {case.workers} workers reads all of it into main memory, then ZeRO-3 keeps a share",
        )
        read = _term(passing.name, case.workers * passing.bytes, passing.why)
        return _phase("loading", case, _weights(case), [whole, read], case.workers)
    return _phase("loading", case, [*_weights(case, shards=1), passing], [], case.workers)


def _training(case: _Case) -> Phase:
    step = case.step
    how = "each layer's input" if case.spec.training.gradient_checkpointing else "all that the backward pass reads"
    batch = f"{step.rows} x {step.sequence} tokens"
    terms = [
        *_resident(case),
        _term("activations", case.part.layers_share * kept_activations(step), f"{how}, {batch}"),
        _term("active layer", layer_workspace(step), f"the layer that the backward pass is in, {batch}"),
        _term("attention scores", attention_scores(step), "eager attention stores them for every pair of tokens"),
        _term("head and logits", head_workspace(step), _why_logits(step)),
    ]
    return _phase("training", case, terms, _offloaded(case), case.workers)


def _holdout_loss(case: _Case) -> Phase:
    tokens = case.step.loss_tokens
    rows = tokens // case.step.sequence
    terms = [
        *_resident(case),
        _term("active layer", forward_workspace(case.step, tokens), f"forward only, {rows} x {case.step.sequence}"),
        _term("head and logits", head_workspace(case.step) * tokens / case.step.tokens, _why_logits(case.step)),
    ]
    return _phase("hold-out loss", case, terms, _offloaded(case), case.workers)


def _evaluating(case: _Case) -> Phase:
    """The base and the tuned model answer held-out prompts; if no card holds the model, over all cards at once."""
    shape, evaluation = case.shape, case.spec.evaluation
    number = number_bytes(case.spec, None, case.site)
    weights = weights_of(shape, case.spec, number, quantised=evaluation.quantised)
    spread = isinstance(case.strategy, Zero3 | DeviceMap) and case.site.cards > 1
    reserve = case.strategy.reserve_gib if isinstance(case.strategy, DeviceMap) else DeviceMap().reserve_gib
    part = fullest_part(shape, weights, case.site, reserve) if spread else Part.whole(shape)
    held = "as in training (evaluation.quantised: true)"
    if not evaluation.quantised:
        held = "plain, as in serving (evaluation.quantised: false)"
    prompts = evaluation.batch_size
    cache = 2 * shape.layers * shape.kv_heads * shape.head_dim * number * prompts * case.prompt
    terms = [
        _term("base weights", part.weights(weights), held),
        _term("adapter", part.layers_share * case.adapter * 4, "float32"),
        _term("keys and values", part.layers_share * cache, f"{prompts} answers of up to {case.prompt} tokens"),
        _term("active layer", forward_workspace(case.step, prompts * min(case.prompt, case.step.sequence)), "prompts"),
        _term("logits", EVALUATION_LOGITS, "of one batch, kept at once"),
    ]
    return _phase("evaluating", case, terms, [], 1 if spread else case.workers)


def _resident(case: _Case) -> list[Term]:
    """What a card holds from the first step to the last."""
    unpacked = _term("unpacked matrix", dequantised(case.step), "the four-bit matrix in use, unpacked")
    return [*_weights(case), *_adapter(case), *_gathered(case), unpacked]


def _weights(case: _Case, *, shards: int | None = None) -> list[Term]:
    """The base model's weights on the fullest card.

    Args:
        shards: number of workers they are sharded over; None: as the strategy does.
    """
    weights, strategy = case.weights, case.strategy
    shards = case.shards if shards is None else shards
    offloaded = isinstance(strategy, Zero3) and strategy.offload_parameters and case.site.cards > 0
    part = case.part
    share = f", 1/{shards} of them" if shards > 1 else ""
    quantised = case.spec.model.quantization.kind == "nf4"
    linear = f"{case.shape.linear / 1e9:.2f} B in linear layers"
    scales = "scales of the blocks" + (", whole on each worker: ZeRO-3 does not shard them" if shards > 1 else "")
    if offloaded:
        return [_term("scales", weights.scales, scales)]
    name, bits = ("NF4 weights", "4 bits each") if quantised else ("base weights", f"{8 * case.step.number} bits each")
    return [
        _term(name, part.layers_share * weights.linear / shards, f"{linear}, {bits}{share}"),
        _term("scales", part.layers_share * weights.scales, scales),
        _term("embeddings, head", part.outer_share * weights.outer / shards, f"never quantised{share}"),
        _term("norms", part.layers_share * weights.small, "and biases"),
    ]


def _adapter(case: _Case) -> list[Term]:
    """The adapter, its gradients and AdamW's two moments (https://arxiv.org/abs/1711.05101)."""
    count, number, strategy = case.adapter, case.step.number, case.strategy
    share = case.part.layers_share
    million = f"{count / 1e6:.0f} M" if count >= 1e7 else f"{count / 1e6:.1f} M"
    rank = f"{million} of rank {case.spec.lora.rank}"
    kept = case.spec.lora.start_from is not None and case.spec.method.kind in ("dpo", "kto")
    reference = [_term("reference adapter", share * count * 4, "frozen: what the run started from")] if kept else []
    if not isinstance(strategy, Zero2 | Zero3):
        buckets = [_term("gradient buckets", count * 4, "DistributedDataParallel's copy")] if case.workers > 1 else []
        return [
            _term("adapter", share * count * 4, f"{rank}, float32"),
            _term("gradients", share * count * 4, "float32"),
            *buckets,
            _term("AdamW", share * count * 8, "two moments, float32"),
            *reference,
        ]
    shared = f", 1/{case.workers} of them" if case.workers > 1 else ""
    buffers = 2 if isinstance(strategy, Zero2) and case.site.cards else 1
    own = [] if strategy.offload_optimizer and case.site.cards else _optimizer(case, case.workers, shared)
    return [
        _term("adapter", count * number / case.shards, f"{rank}, as it computes{shared if case.shards > 1 else ''}"),
        *own,
        _term("reduce buckets", buffers * min(REDUCE, count) * number, f"{buffers} of gradients in flight"),
        *reference,
    ]


def _optimizer(case: _Case, among: int, note: str) -> list[Term]:
    return [
        _term("gradients", case.adapter * 4 / among, f"float32{note}"),
        _term("AdamW", case.adapter * 12 / among, f"float32 copy and two moments{note}"),
    ]


def _gathered(case: _Case) -> list[Term]:
    """Weights of other workers that are on the card for the active layer."""
    if not isinstance(case.strategy, Zero3) or (case.shards == 1 and not case.strategy.offload_parameters):
        return []
    quantised = case.spec.model.quantization.kind == "nf4"
    layers = case.weights.linear / (2 if quantised else case.step.number)  # packed bytes, two to a bfloat16
    outer = case.shape.embedding + case.shape.head
    largest = max(case.shape.embedding, layers / case.shape.layers)
    live = min(layers + outer, max(LIVE, largest)) + min(layers + outer, PREFETCH)
    why = f"ZeRO-3 keeps {LIVE / 1e9:.0f} B numbers gathered, or one larger matrix, and prefetches"
    return [_term("gathered weights", live * case.step.number, why)]


def _offloaded(case: _Case) -> list[Term]:
    """What the strategy keeps in main memory instead of on the cards, over all workers."""
    strategy = case.strategy
    if not case.site.cards or not isinstance(strategy, Zero2 | Zero3):
        return []
    found = []
    if isinstance(strategy, Zero3) and strategy.offload_parameters:
        weights = case.weights
        found.append(_term("offloaded weights", weights.linear + weights.outer + weights.small, "all shares, pinned"))
    if strategy.offload_optimizer:
        found += [_term(f"offloaded {term.name}", term.bytes, term.why) for term in _optimizer(case, 1, "")]
    return found


def _why_logits(step: Step) -> str:
    if step.spec.method.kind == "orpo":
        return f"all {step.shape.vocabulary:,} logits of each token, which ORPO's loss keeps"
    return "in tiles, never whole"


def _nonzero(terms: list[Term]) -> tuple[Term, ...]:
    return tuple(term for term in terms if term.bytes > 0)


def _term(name: str, size: float, why: str, *, measured: bool = True) -> Term:
    return Term(name=name, bytes=round(size), why=why, measured=measured)
