"""One model's answers, scores and losses on held-out examples, or on one worker's share of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from runspec.errors import DataError
from runspec.evaluation import EvaluationSpec
from training.data.example import Example
from training.evaluation.batches import context_length
from training.evaluation.fewshot import with_shots
from training.evaluation.generate import answer_ids, answer_losses, as_text
from training.evaluation.results import Measurement
from training.evaluation.scorers import AnswerScorer, score_answers
from training.evaluation.sharding import interleave
from training.tokens.chat import IGNORED, Piece, render_prompt, tokenize
from training.tokens.stop_tokens import stop_token_ids

NO_LIMIT = 2**30
"""Context of a model whose configuration names none."""


@dataclass(frozen=True)
class _Asked:
    """An example as the model gets it."""

    example: Example
    messages: list[dict[str, Any]]
    ids: list[int]
    shots: int


def measure(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    spec: EvaluationSpec,
    scorers: Sequence[AnswerScorer],
    *,
    few_shot_examples: Sequence[Example] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Measurement:
    """Answer the examples greedily and score the answers; the same code before and after training.

    Args:
        tokenizer: with the chat template that training used.
        examples: may be empty.
        few_shot_examples: put before each prompt as earlier turns.
        on_progress: gets the number of examples answered so far.

    Raises:
        DataError: a prompt, or prompt and reference, is longer than the model's context.
        SpecError: a custom scorer failed.
    """
    started = time.monotonic()
    context = context_length(model) or NO_LIMIT
    asked = [_ask(example, few_shot_examples or (), tokenizer, context, spec.max_new_tokens) for example in examples]
    stop_ids = stop_token_ids(tokenizer)
    ids: list[list[int]] = [[] for _ in asked]
    if scorers:
        ids = answer_ids(
            model,
            tokenizer,
            [one.ids for one in asked],
            max_new_tokens=spec.max_new_tokens,
            batch_size=spec.batch_size,
            stop_ids=stop_ids,
            on_progress=on_progress,
        )
    answers = [as_text(row, tokenizer, stop_ids) for row in ids]
    metrics = score_answers(scorers, examples, [one.messages for one in asked], answers)
    if any(scorer.kind == "loss" for scorer in spec.scorers):
        pieces = [_answer_piece(one, tokenizer, context) for one in asked]
        metrics["loss"] = [loss.mean for loss in answer_losses(model, tokenizer, pieces)]
    return Measurement(
        metrics=metrics,
        answers=answers,
        references=[example.reference for example in examples],
        origins=[example.origin for example in examples],
        cut_short=[bool(row) and row[-1] not in stop_ids for row in ids],
        shots=[one.shots for one in asked],
        seconds=time.monotonic() - started,
        tokens_generated=sum(map(len, ids)),
    )


def merge(parts: Sequence[Measurement]) -> Measurement:
    return Measurement(
        metrics={metric: interleave([part.metrics[metric] for part in parts]) for metric in parts[0].metrics},
        answers=interleave([part.answers for part in parts]),
        references=interleave([part.references for part in parts]),
        origins=interleave([part.origins for part in parts]),
        cut_short=interleave([part.cut_short for part in parts]),
        shots=interleave([part.shots for part in parts]),
        seconds=max(part.seconds for part in parts),
        tokens_generated=sum(part.tokens_generated for part in parts),
    )


def _ask(example: Example, shots: Sequence[Example], tokenizer: Any, context: int, answer_tokens: int) -> _Asked:
    """Render a prompt with as many of the shots as leave room for an answer of `answer_tokens` tokens."""
    if example.text is not None:
        return _Asked(example, [], [], 0)
    prompt = list(example.prompt)
    for count in range(len(shots), 0, -1):
        messages = with_shots(prompt, shots[:count])
        ids = render_prompt(messages, tokenizer, example.tools)
        if len(ids) + answer_tokens <= context:
            return _Asked(example, messages, ids, count)
    ids = render_prompt(prompt, tokenizer, example.tools)
    if len(ids) >= context:
        raise _too_long(f"The prompt has {len(ids)} tokens", example, context)
    return _Asked(example, prompt, ids, 0)


def _answer_piece(one: _Asked, tokenizer: Any, context: int) -> Piece:
    """The example as tokenised for training, but labelled in its last answer only."""
    example = one.example
    if example.text is None:
        example = dataclasses.replace(example, messages=(*one.messages, example.messages[-1]))
    piece = tokenize(example, tokenizer, max_length=NO_LIMIT, too_long="truncate").pieces[-1]
    if len(piece.input_ids) > context:
        raise _too_long(f"Prompt and reference have {len(piece.input_ids)} tokens", one.example, context)
    return Piece(piece.input_ids, last_run(piece.labels))


def last_run(labels: Sequence[int]) -> list[int]:
    """The labels with all but the last unbroken run of them set to -100: the last answer of a conversation."""
    end = max(place for place, label in enumerate(labels) if label != IGNORED) + 1
    start = next((place + 1 for place in range(end - 1, -1, -1) if labels[place] == IGNORED), 0)
    return [label if start <= place < end else IGNORED for place, label in enumerate(labels)]


def _too_long(problem: str, example: Example, context: int) -> DataError:
    return DataError(
        f"{problem}, but the model's context has only {context}.",
        where=example.origin,
        fix="Shorten or remove that row, or use a model with a longer context.",
    )
