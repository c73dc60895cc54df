"""Batches of token rows: left-padded, after a prefix that all rows share and that went through the model once.

Prompts of one task begin alike (system message, few-shot examples). Keys and values of that beginning are computed
once and repeated for each row: the same numbers, a fraction of the work.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

LOGITS_AT_ONCE = 2**25
"""Most logits that one forward pass keeps: 128 MiB in float32, whatever the vocabulary."""


@dataclass(frozen=True)
class Prefix:
    """Tokens that every row starts with, and their keys and values."""

    length: int
    cache: Any

    def repeated(self, rows: int) -> Any:
        cache = copy.deepcopy(self.cache)
        if self.length:
            cache.batch_repeat_interleave(rows)
        return cache


@dataclass(frozen=True)
class Batch:
    """Left-padded rows. T is the longest row without its prefix, S the prefix and T."""

    input_ids_BT: torch.Tensor
    attention_mask_BS: torch.Tensor
    position_ids_BT: torch.Tensor


def plain_cache(model: Any) -> Any | None:
    """An empty cache if every layer of the model attends to all tokens, else None.

    Sliding windows count padding, and recurrent layers run through it: only full attention ignores the gap between
    prefix and row.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    cache = DynamicCache(config=model.config)
    return cache if cache.layers and all(type(layer) is DynamicLayer for layer in cache.layers) else None


def run_prefix(model: Any, rows: Sequence[Sequence[int]], longest: int) -> Prefix | None:
    """Run what all rows begin with through the model, in evaluation mode.

    Args:
        longest: limit of the prefix, so that something is left of each row.

    Returns:
        The prefix, perhaps of length 0; None if the model's layers allow none.
    """
    cache = plain_cache(model)
    if cache is None:
        return None
    length = 0
    if len(rows) > 1:  # what the first and the last in sorted order share, all rows share
        pairs = enumerate(zip(min(map(list, rows)), max(map(list, rows)), strict=False))
        shared = next((place for place, (left, right) in pairs if left != right), min(map(len, rows)))
        length = max(0, min(shared, longest))
    if length:
        ids = torch.tensor([list(rows[0][:length])], device=model.device)
        forward(model, keep=1, input_ids=ids, attention_mask=torch.ones_like(ids), past_key_values=cache)
    return Prefix(length, cache)


def pad_left(rows: Sequence[Sequence[int]], prefix: int, pad_id: int, device: Any) -> Batch:
    """One batch of rows, without the first `prefix` tokens of each but with room for them in the mask."""
    rest = [list(row[prefix:]) for row in rows]
    width = max(map(len, rest))
    ids = torch.tensor([[pad_id] * (width - len(row)) + row for row in rest], device=device)
    mask = torch.tensor([[1] * prefix + [0] * (width - len(row)) + [1] * len(row) for row in rest], device=device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -width:]
    return Batch(ids, mask, positions)


def tail_logits(model: Any, rows: Sequence[Sequence[int]], tail: int, prefix: Prefix | None, pad_id: int) -> Any:
    """Logits that predict the last `tail` tokens of each row, in float32 [B, tail, V]; the model in evaluation mode.

    Args:
        rows: token ids; without the prefix, one of them has more than `tail` tokens. The first columns of shorter rows
            mean nothing.
        prefix: from `run_prefix` of the same model; None runs the rows whole.
    """
    length = prefix.length if prefix else 0
    batch = pad_left([row[:-1] for row in rows], length, pad_id, model.device)
    cached = {"past_key_values": prefix.repeated(len(rows))} if prefix and length else {"use_cache": False}
    return forward(
        model,
        keep=tail,
        input_ids=batch.input_ids_BT,
        attention_mask=batch.attention_mask_BS,
        position_ids=batch.position_ids_BT,
        **cached,
    ).float()


def forward(model: Any, *, keep: int, **inputs: Any) -> Any:
    """Logits of the last `keep` positions [B, keep, V]."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model  # PEFT's forward takes anything
    if "logits_to_keep" in inspect.signature(plain.forward).parameters:
        inputs["logits_to_keep"] = keep
    inputs.setdefault("use_cache", True)
    return model(**inputs).logits[:, -keep:]


def chunks(tails: Sequence[int], vocabulary: int, most: int) -> Iterator[list[int]]:
    """Split rows, sorted by length, into chunks of at most `most` rows and LOGITS_AT_ONCE logits, one row at least.

    Args:
        tails: predicted tokens of each row.

    Yields:
        Indices of rows in `tails`.
    """
    chunk: list[int] = []
    for place in range(len(tails)):
        wider = [*chunk, place]
        logits = len(wider) * max(tails[i] for i in wider) * vocabulary
        if chunk and (len(wider) > most or logits > LOGITS_AT_ONCE):
            yield chunk
            wider = [place]
        chunk = wider
    if chunk:
        yield chunk


def vocabulary_size(model: Any) -> int:
    return int(model.config.get_text_config().vocab_size)


def context_length(model: Any) -> int | None:
    """Most tokens the model takes; None if its configuration gives no limit."""
    found = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(found) if found else None


def pad_token_id(tokenizer: Any) -> int:
    """The token that fills gaps; it is masked, so any will do if the tokenizer names none."""
    found = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return int(found or 0)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Without dropout and gradients; restores the model's mode."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)
