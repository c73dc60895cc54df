"""Prompts with the answers that are judged, as token ids: what DPO, ORPO and KTO train on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from runspec.errors import DataError
from training.data.example import Example, Message
from training.tokens.chat import IGNORED, tokenize

NO_LIMIT = 2**30

Fate = Literal["whole", "truncated", "dropped"]


@dataclass(frozen=True)
class Answered:
    """A prompt and an answer to it, each as token ids; the answer ends with the token that ends the turn."""

    prompt_ids: list[int]
    answer_ids: list[int]

    @property
    def length(self) -> int:
        """Tokens of both."""
        return len(self.prompt_ids) + len(self.answer_ids)


def tokenize_answer(example: Example, answer: tuple[Message, ...], tokenizer: Any) -> Answered:
    """Token ids of an example's prompt with `answer` behind it, as supervised training and serving write them.

    Raises:
        ModelError, DataError: the chat template cannot be used, or refuses the conversation.
    """
    prompt = tuple(message | {"weight": 0} if message["role"] == "assistant" else message for message in example.prompt)
    asked = replace(example, messages=(*prompt, *answer), rejected=None, label=None)
    piece = tokenize(asked, tokenizer, max_length=NO_LIMIT, too_long="truncate").pieces[-1]
    labelled = [place for place, label in enumerate(piece.labels) if label != IGNORED]
    return Answered(piece.input_ids[: labelled[0]], piece.input_ids[labelled[0] : labelled[-1] + 1])


def tokenize_pair(example: Example, tokenizer: Any) -> tuple[Answered, Answered]:
    """The chosen and the rejected answer behind the same prompt.

    Raises:
        DataError: the example has no rejected answer, or the template writes the prompt differently for the two.
        ModelError: the chat template cannot be used.
    """
    if example.rejected is None:
        raise DataError("The row has no rejected answer.", where=example.origin, fix="Add a column `rejected`.")
    chosen = tokenize_answer(example, example.completion, tokenizer)
    rejected = tokenize_answer(example, example.rejected, tokenizer)
    if chosen.prompt_ids != rejected.prompt_ids:
        raise DataError(
            "The chat template writes the prompt differently before the rejected answer and before the chosen one.",
            where=example.origin,
            fix="Set model.chat_template to one in which the prompt does not depend on the answer.",
        )
    return chosen, rejected


def cut(answered: Answered, max_length: int, too_long: str) -> tuple[Answered | None, Fate]:
    """An answer cut to `max_length` tokens with its prompt; None where nothing of it would be left, or `too_long`
    says to leave it out."""
    if answered.length <= max_length:
        return answered, "whole"
    room = max_length - len(answered.prompt_ids)
    if room <= 0 or too_long == "drop":
        return None, "dropped"
    return Answered(answered.prompt_ids, answered.answer_ids[:room]), "truncated"
