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
"""Most logits of one forward pass that are kept: 128 MiB in float32, whatever the vocabulary."""


@dataclass(frozen=True)
class Prefix:
    """Tokens that every row starts with, and their keys and values."""

    length: int
    cache: Any

    def repeated(self, rows: int) -> Any:
        """A cache of its own for a batch of `rows`."""
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
    """An empty cache, where every layer of the model attends to all tokens; else None.

    Sliding windows count padding, and recurrent layers run through it, so a gap between prefix and row is only
    harmless to full attention.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    cache = DynamicCache(config=model.config)
    return cache if cache.layers and all(type(layer) is DynamicLayer for layer in cache.layers) else None


def run_prefix(model: Any, rows: Sequence[Sequence[int]], longest: int) -> Prefix | None:
    """Run what all rows begin with through the model.

    Args:
        model: in evaluation mode.
        rows: token ids; at least one row.
        longest: the prefix may be this long at most, so that something is left of each row.

    Returns:
        The prefix, perhaps of length 0; None where the model's layers allow none.
    """
    cache = plain_cache(model)
    if cache is None:
        return None
    length = min(_shared(rows), longest) if len(rows) > 1 else 0
    if length > 0:
        ids = torch.tensor([list(rows[0][:length])], device=model.device)
        forward(model, keep=1, input_ids=ids, attention_mask=torch.ones_like(ids), past_key_values=cache)
    return Prefix(max(0, length), cache)


def _shared(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with: as many as the first and the last of them in order have in common."""
    first, last = min(map(list, rows)), max(map(list, rows))
    for place, (left, right) in enumerate(zip(first, last, strict=False)):
        if left != right:
            return place
    return min(len(first), len(last))


def pad_left(rows: Sequence[Sequence[int]], prefix: int, pad_id: int, device: Any) -> Batch:
    """Put rows in one batch, without the first `prefix` tokens of each but with room for them in the mask."""
    rest = [list(row[prefix:]) for row in rows]
    width = max(map(len, rest))
    ids = torch.tensor([[pad_id] * (width - len(row)) + row for row in rest], device=device)
    mask = torch.tensor([[1] * prefix + [0] * (width - len(row)) + [1] * len(row) for row in rest], device=device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -width:]
    return Batch(ids, mask, positions)


def tail_logits(model: Any, rows: Sequence[Sequence[int]], tail: int, prefix: Prefix | None, pad_id: int) -> Any:
    """Logits that predict the last `tail` tokens of each row, in float32 [B, tail, V].

    Args:
        model: in evaluation mode.
        rows: token ids; without the prefix, one of them has more than `tail` tokens, so that all of these are
            predicted; of shorter ones the first columns mean nothing.
        prefix: from `run_prefix` of the same model; None: the rows go through whole.
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
    """One forward pass; logits of the last `keep` positions only [B, keep, V]."""
    if "logits_to_keep" in inspect.signature(_innermost(model).forward).parameters:
        inputs["logits_to_keep"] = keep
    inputs.setdefault("use_cache", True)
    return model(**inputs).logits[:, -keep:]


def _innermost(model: Any) -> Any:
    """The model under an adapter: PEFT's forward takes anything."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def chunks(tails: Sequence[int], vocabulary: int, most: int) -> Iterator[list[int]]:
    """Split rows, given in an order of similar lengths, so that no chunk has more than LOGITS_AT_ONCE logits.

    Args:
        tails: predicted tokens of each row.
        vocabulary: logits for each token.
        most: most rows in one chunk.

    Yields:
        Places of rows in `tails`; at least one each time.
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
    """Number of logits for each token."""
    return int(model.config.get_text_config().vocab_size)


def context_length(model: Any) -> int | None:
    """Most tokens the model takes, or None where its configuration gives no limit."""
    found = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(found) if found else None


def pad_token_id(tokenizer: Any) -> int:
    """The token that fills gaps; it is masked, so any will do where the tokenizer names none."""
    found = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return int(found or 0)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Without dropout and without gradients; the model's mode is as before afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)
