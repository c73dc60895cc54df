"""Greedy answers in batches, and the loss of reference answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from runspec.errors import DataError
from training.evaluation.batches import (
    Prefix,
    chunks,
    context_length,
    evaluating,
    forward,
    pad_left,
    pad_token_id,
    run_prefix,
    tail_logits,
    vocabulary_size,
)
from training.tokens.chat import IGNORED, Piece


@dataclass(frozen=True)
class Sampling:
    """Draw each token by its probability instead of taking the likeliest."""

    temperature: float
    seed: int


LOSS_ROWS = 32
"""Most examples in one forward pass when only the loss is measured."""


@dataclass(frozen=True)
class AnswerLoss:
    mean: float
    """Nats a token."""
    tokens: int


def as_text(ids: Sequence[int], tokenizer: Any, stop_ids: Collection[int]) -> str:
    """An answer as text, without the token that ends the turn and other special tokens."""
    said = ids[:-1] if ids and ids[-1] in stop_ids else ids
    return str(tokenizer.decode(said, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def answer_ids(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    stop_ids: Collection[int],
    on_progress: Callable[[int], None] | None = None,
    sampling: Sampling | None = None,
) -> list[list[int]]:
    """Continue each prompt with the likeliest token, up to one of `stop_ids` or `max_new_tokens`.

    In float32 greedy answers are the same at every batch size; in bfloat16 two tokens of nearly equal probability may
    swap with the shape of the batch.

    Args:
        prompts: token ids with the generation prompt at their end; none may be empty.
        batch_size: prompts that are answered together; short ones first, so that little is padded.
        on_progress: gets the number of prompts answered so far, after each batch.
        sampling: draw tokens instead.

    Returns:
        New tokens of each prompt, in the order of the prompts, including the one that ended the turn.

    Raises:
        DataError: a prompt is longer than the model's context.
    """
    context = context_length(model)
    for number, prompt in enumerate(prompts, start=1):
        if context is not None and len(prompt) >= context:
            raise DataError(
                f"A prompt of {len(prompt)} tokens leaves no room in the model's context of {context}.",
                where=f"prompt {number} of {len(prompts)}",
                fix="Shorten that row, or use a model with a longer context.",
            )
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    answers: list[list[int]] = [[] for _ in prompts]
    choose = _Choose(sampling, model.device)
    with evaluating(model):
        prefix = run_prefix(model, prompts, min(map(len, prompts)) - 1) if prompts else None
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            asked = [prompts[row] for row in rows]
            task = _Task(model, asked, max_new_tokens, stop_ids, pad_token_id(tokenizer), choose)
            found = _token_by_token(task, prefix) if prefix else _by_library(task)
            for row, ids in zip(rows, found, strict=True):
                answers[row] = ids
            if on_progress:
                on_progress(start + len(rows))
    return answers


class _Choose:
    def __init__(self, sampling: Sampling | None, device: torch.device) -> None:
        self.sampling = sampling
        self._chance = torch.Generator(device).manual_seed(sampling.seed) if sampling else None

    def __call__(self, logits_BV: torch.Tensor) -> torch.Tensor:
        if self.sampling is None:
            return logits_BV.argmax(-1)
        probabilities_BV = torch.softmax(logits_BV.float() / self.sampling.temperature, dim=-1)
        return torch.multinomial(probabilities_BV, 1, generator=self._chance)[:, 0]


@dataclass(frozen=True)
class _Task:
    model: Any
    prompts: list[Sequence[int]]
    max_new_tokens: int
    stop_ids: Collection[int]
    pad_id: int
    choose: _Choose

    def limit(self, row: int) -> int:
        """Most new tokens of a row: the model has no positions past its context."""
        context = context_length(self.model)
        return min(self.max_new_tokens, context - len(self.prompts[row])) if context else self.max_new_tokens


def _token_by_token(task: _Task, prefix: Prefix) -> list[list[int]]:
    """With a key-value cache; a row that has ended leaves the batch."""
    batch = pad_left(task.prompts, prefix.length, task.pad_id, task.model.device)
    cache, mask_BS = prefix.repeated(len(task.prompts)), batch.attention_mask_BS
    ids_BT, positions_BT = batch.input_ids_BT, batch.position_ids_BT
    answers: list[list[int]] = [[] for _ in task.prompts]
    rows = list(range(len(task.prompts)))
    limits = [task.limit(row) for row in rows]
    while rows:
        logits_B1V = forward(
            task.model,
            keep=1,
            input_ids=ids_BT,
            attention_mask=mask_BS,
            position_ids=positions_BT,
            past_key_values=cache,
        )
        tokens_B = task.choose(logits_B1V[:, -1])
        for row, token in zip(rows, tokens_B.tolist(), strict=True):
            answers[row].append(token)
        going = [
            place
            for place, row in enumerate(rows)
            if answers[row][-1] not in task.stop_ids and len(answers[row]) < limits[row]
        ]
        if 0 < len(going) < len(rows):
            index = torch.tensor(going, device=mask_BS.device)
            cache.batch_select_indices(index)
            mask_BS, tokens_B = mask_BS[index], tokens_B[index]
        rows = [rows[place] for place in going]
        mask_BS = torch.cat([mask_BS, mask_BS.new_ones(len(mask_BS), 1)], dim=1)
        ids_BT, positions_BT = tokens_B[:, None], mask_BS.sum(1, keepdim=True) - 1
    return answers


def _by_library(task: _Task) -> list[list[int]]:
    """The same with `generate` of transformers, which supports sliding windows and recurrent layers."""
    from transformers import GenerationConfig

    batch = pad_left(task.prompts, 0, task.pad_id, task.model.device)
    sampling = task.choose.sampling
    drawn = {"do_sample": True, "temperature": sampling.temperature, "top_k": 0} if sampling else {"do_sample": False}
    settings = GenerationConfig(
        **drawn,
        repetition_penalty=1.0,  # the model's own settings apply to what is not set here
        max_new_tokens=max(task.limit(row) for row in range(len(task.prompts))),
        eos_token_id=list(task.stop_ids),
        pad_token_id=task.pad_id,
    )
    whole = task.model.generate(
        input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BS, generation_config=settings
    )
    new = whole[:, batch.input_ids_BT.shape[1] :].tolist()
    answers = []
    for row, ids in enumerate(new):
        limit = task.limit(row)
        ends = [place + 1 for place, token in enumerate(ids[:limit]) if token in task.stop_ids]
        answers.append(ids[: min([limit, *ends])])
    return answers


def answer_losses(model: Any, tokenizer: Any, pieces: Sequence[Piece]) -> list[AnswerLoss]:
    """Mean negative log-likelihood of the labelled tokens of each piece. Raises ValueError for one without a label."""
    tails = [_tail(piece) for piece in pieces]
    order = sorted(range(len(pieces)), key=lambda place: len(pieces[place].input_ids))
    losses: dict[int, AnswerLoss] = {}
    if not pieces:
        return []
    with evaluating(model):
        ids = [piece.input_ids for piece in pieces]
        room = min(len(row) - 1 - tail for row, tail in zip(ids, tails, strict=True))
        prefix = run_prefix(model, ids, room)
        for chunk in chunks([tails[place] for place in order], vocabulary_size(model), LOSS_ROWS):
            places = [order[i] for i in chunk]
            tail = max(tails[place] for place in places)
            logits = tail_logits(model, [ids[place] for place in places], tail, prefix, pad_token_id(tokenizer))
            for row, place in enumerate(places):
                losses[place] = _loss(logits[row], list(pieces[place].labels[1:])[-tail:])
    return [losses[place] for place in range(len(pieces))]


def _tail(piece: Piece) -> int:
    """Number of tokens from the first labelled one to the end. The very first token is never predicted."""
    for place, label in enumerate(piece.labels):
        if place > 0 and label != IGNORED:
            return len(piece.labels) - place
    raise ValueError("A piece without a label has no loss.")


def _loss(logits_KV: torch.Tensor, labels: list[int]) -> AnswerLoss:
    wanted = torch.tensor(labels, device=logits_KV.device)
    loss_K = torch.nn.functional.cross_entropy(
        logits_KV[-len(labels) :], wanted, ignore_index=IGNORED, reduction="none"
    )
    tokens = int((wanted != IGNORED).sum())
    return AnswerLoss(float(loss_K.double().sum()) / tokens, tokens)
