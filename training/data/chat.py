"""The base model's chat template applied to an example: token ids, and labels on what the assistant says.

An answer is the part of the rendered conversation between the prompt (everything before the turn, with the
generation prompt) and the end of the turn, its stop token included. Prompt and answer are tokenised apart, so the
tokens of a prompt at evaluation and in serving are exactly the ones that training saw before the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from runspec.errors import DataError, ModelError
from training.data.example import Example

IGNORED = -100
"""The label of a token that is not trained on (torch.nn.CrossEntropyLoss's `ignore_index`)."""
END_OF_TURN = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "</s>",
)
"""Tokens that end a turn in the templates of the common model families, besides a tokenizer's own EOS."""
Fate = Literal["whole", "truncated", "dropped", "split"]


@dataclass(frozen=True)
class Piece:
    """One training sequence: token ids, and as many labels, -100 where nothing is learnt."""

    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Tokenized:
    """An example as sequences to train on, and what its length did to it."""

    pieces: list[Piece]
    fate: Fate


def tokenize(
    example: Example, tokenizer: Any, *, max_length: int, too_long: Literal["truncate", "drop", "split"]
) -> Tokenized:
    """Token ids and labels of an example.

    Args:
        tokenizer: a transformers tokenizer with a chat template (a plain text needs none).
        max_length: tokens of the longest sequence.
        too_long: cut a longer one at the end, leave it out, or cut it in pieces.

    Returns:
        Pieces that each have at least one token to train on.

    Raises:
        ModelError: the template cannot be used for training.
    """
    whole = [_text_piece(example.text, tokenizer)] if example.text is not None else _chat_pieces(example, tokenizer)
    if all(len(piece.input_ids) <= max_length for piece in whole):
        return _told(whole, "whole")
    if too_long == "drop":
        return _told([piece for piece in whole if len(piece.input_ids) <= max_length], "dropped")
    if too_long == "truncate":
        return _told([_cut(piece, 0, max_length) for piece in whole], "truncated")
    starts = [(piece, start) for piece in whole for start in range(0, len(piece.input_ids), max_length)]
    return _told([_cut(piece, start, start + max_length) for piece, start in starts], "split")


def _told(pieces: list[Piece], fate: Fate) -> Tokenized:
    kept = [piece for piece in pieces if any(label != IGNORED for label in piece.labels)]
    return Tokenized(kept, fate if kept else "dropped")


def _cut(piece: Piece, start: int, end: int) -> Piece:
    return Piece(piece.input_ids[start:end], piece.labels[start:end])


def _text_piece(text: str, tokenizer: Any) -> Piece:
    ids = [*_ids(text, tokenizer), tokenizer.eos_token_id]
    return Piece(ids, list(ids))


@dataclass(frozen=True)
class _Turn:
    """One answer: the text before it, its own text, and the text of the conversation up to its end."""

    prompt: str
    answer: str
    upto: str


def _chat_pieces(example: Example, tokenizer: Any) -> list[Piece]:
    """One sequence; or one for each answer, where the template shows earlier turns otherwise once they are past."""
    messages = list(example.messages)
    turns = [_turn(messages, place, example, tokenizer) for place in _answers(messages)]
    in_one = all(later.prompt.startswith(earlier.upto) for earlier, later in zip(turns, turns[1:], strict=False))
    if not in_one:
        return [_joined([turn], tokenizer) for turn in turns]
    return [_joined(turns, tokenizer)]


def _answers(messages: list[dict[str, Any]]) -> list[int]:
    return [place for place, message in enumerate(messages) if message["role"] == "assistant"]


def _turn(messages: list[dict[str, Any]], place: int, example: Example, tokenizer: Any) -> _Turn:
    prompt = render(messages[:place], tokenizer, example.tools, generation_prompt=True)
    upto = render(messages[: place + 1], tokenizer, example.tools, generation_prompt=False)
    if not upto.startswith(prompt):
        raise ModelError(
            "The chat template renders an answered conversation otherwise than the prompt that led to it, so what is "
            "trained would not be what is asked later.",
            where=f"model.chat_template, at {example.origin}: prompt ends {prompt[-40:]!r}",
            fix="Set model.chat_template to a template whose generation prompt begins the assistant's turn.",
        )
    answer = upto[len(prompt) :]
    return _Turn(prompt, answer.rstrip("\n") if answer.strip() else answer, upto)


def _joined(turns: list[_Turn], tokenizer: Any) -> Piece:
    ids: list[int] = []
    labels: list[int] = []
    done = ""
    for turn in turns:
        before = _ids(turn.prompt[len(done) :], tokenizer)
        answer = _ids(turn.answer, tokenizer)
        ids += before + answer
        labels += [IGNORED] * len(before) + answer
        done = turn.prompt + turn.answer
    return Piece(ids, labels)


def _ids(text: str, tokenizer: Any) -> list[int]:
    """Token ids of text that has its special tokens in it already."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def render(
    messages: list[dict[str, Any]],
    tokenizer: Any,
    tools: tuple[dict[str, Any], ...] | None = None,
    *,
    generation_prompt: bool,
) -> str:
    """A conversation in the tokenizer's chat template.

    Raises:
        ModelError: there is no template, or it refuses this conversation.
    """
    import jinja2

    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            "The base model has no chat template, so conversations cannot be shown to it.",
            where="model.chat_template",
            fix="Use the chat variant of the model, set model.chat_template to a Jinja file, or use layout: text.",
        )
    try:
        text = tokenizer.apply_chat_template(
            messages,
            tools=list(tools) if tools else None,
            tokenize=False,
            add_generation_prompt=generation_prompt,
        )
    except (jinja2.TemplateError, TypeError, KeyError) as error:
        raise ModelError(
            f"The chat template refuses a conversation: {error}",
            where=f"model.chat_template, roles {', '.join(message['role'] for message in messages)}",
            fix="Change the roles of the data to what the template takes, or set model.chat_template.",
        ) from error
    return str(text)


def render_prompt(messages: list[dict[str, Any]], tokenizer: Any, tools: tuple[dict[str, Any], ...] | None) -> list[int]:
    """Token ids of a prompt, the generation prompt at its end: what the model is asked to go on from."""
    return _ids(render(messages, tokenizer, tools, generation_prompt=True), tokenizer)


def stop_token_ids(tokenizer: Any) -> list[int]:
    """The tokens that end an answer: the tokenizer's EOS first, then the end-of-turn tokens it knows."""
    known = [tokenizer.convert_tokens_to_ids(token) for token in END_OF_TURN]
    unknown = {None, getattr(tokenizer, "unk_token_id", None)}
    ids = [tokenizer.eos_token_id, *(one for one in known if one not in unknown)]
    return list(dict.fromkeys(one for one in ids if one is not None))


def check_template(tokenizer: Any, example: Example) -> None:
    """See that training on this example would teach the model to answer, and to stop.

    Raises:
        ModelError: there is no template, or the token that ends a turn is never trained.
        DataError: nothing of the example would be trained on.
    """
    if example.text is not None:
        return
    pieces = _chat_pieces(example, tokenizer)
    supervised = [label for piece in pieces for label in piece.labels if label != IGNORED]
    if not supervised:
        raise DataError("The example has no token to train on.", where=example.origin, fix="Give it an answer.")
    stops = set(stop_token_ids(tokenizer))
    if not stops.intersection(supervised):
        last = render(list(example.messages), tokenizer, example.tools, generation_prompt=False)[-40:]
        raise ModelError(
            "The chat template never puts a stop token after an answer, so the model would not learn to stop.",
            where=f"model.chat_template: a conversation ends {last!r}; "
            f"stop tokens are {', '.join(tokenizer.convert_ids_to_tokens(sorted(stops)))}",
            fix="End the assistant's turn with the tokenizer's EOS in the template (model.chat_template).",
        )
