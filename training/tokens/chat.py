"""Examples as token ids, with labels on what the assistant says and on the stop token that ends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from runspec.errors import DataError, ModelError
from training.data.example import Example
from training.tokens.stop_tokens import stop_token_ids
from training.tokens.template import WHERE, Rendered, Span, render, render_conversation, says_nothing, template_text

IGNORED = -100
"""The label of a token that is not trained on (torch.nn.CrossEntropyLoss's `ignore_index`)."""

Fate = Literal["whole", "truncated", "dropped", "split"]
TooLong = Literal["truncate", "drop", "split"]


@dataclass(frozen=True)
class Piece:
    """One training sequence: token ids and as many labels, -100 where nothing is learnt."""

    input_ids: list[int]
    labels: list[int]

    @property
    def is_trained(self) -> bool:
        """The first token is never predicted, so its label does not count."""
        return any(label != IGNORED for label in self.labels[1:])


@dataclass(frozen=True)
class Tokenized:
    pieces: list[Piece]
    """Usually one; several if it was split, or one per turn if its template renders past turns differently."""
    fate: Fate
    """`truncated` if anything was cut off or left out, `dropped` if no piece is left."""


def tokenize(example: Example, tokenizer: Any, *, max_length: int, too_long: TooLong) -> Tokenized:
    """Token ids and labels of a conversation, or of plain text, of which every token is trained on.

    Args:
        tokenizer: a fast transformers tokenizer; for conversations with a chat template.
        max_length: tokens of the longest sequence.
        too_long: cut a longer one at its end, drop it, or split it into pieces.

    Returns:
        Pieces that each have a token to train on.

    Raises:
        ModelError: the template or the tokenizer cannot be used for training.
        DataError: the template rejects the conversation.
    """
    whole = _whole(example, tokenizer)
    if all(len(piece.input_ids) <= max_length for piece in whole):
        return _tokenized(whole, "whole")
    if too_long == "drop":
        return _tokenized([piece for piece in whole if len(piece.input_ids) <= max_length], "truncated")
    if too_long == "truncate":
        return _tokenized([_cut(piece, 0, max_length) for piece in whole], "truncated")
    starts = [(piece, start) for piece in whole for start in range(0, len(piece.input_ids), max_length)]
    return _tokenized([_cut(piece, start, max_length) for piece, start in starts], "split")


def _tokenized(pieces: list[Piece], fate: Fate) -> Tokenized:
    kept = [piece for piece in pieces if piece.is_trained]
    return Tokenized(kept, fate if kept else "dropped")


def _cut(piece: Piece, start: int, length: int) -> Piece:
    return Piece(piece.input_ids[start : start + length], piece.labels[start : start + length])


def _whole(example: Example, tokenizer: Any) -> list[Piece]:
    if example.text is not None:
        return [_text_piece(example.text, tokenizer)]
    return [_chat_piece(rendered, tokenizer, example) for rendered in render_conversation(example, tokenizer)]


def _text_piece(text: str, tokenizer: Any) -> Piece:
    eos = tokenizer.eos_token_id
    if eos is None:
        what = "The tokenizer has no end-of-sequence token, so the model would not learn where a text ends."
        raise ModelError(what, where="model.source", fix="Set eos_token in the model's tokenizer_config.json.")
    ids = list(tokenizer(text)["input_ids"])
    ids += [] if ids and ids[-1] == eos else [eos]
    return Piece(ids, list(ids))


def _chat_piece(rendered: Rendered, tokenizer: Any, example: Example) -> Piece:
    """The prompt of the last turn is tokenised as in serving; each turn is learnt up to its last stop token."""
    whole = _encode(rendered.text, tokenizer)
    prompt = _encode(rendered.text[: rendered.prompt_end], tokenizer)
    if whole.ids[: len(prompt.ids)] != prompt.ids:
        whole = _apart(whole, prompt, rendered, tokenizer)
    stops = stop_token_ids(tokenizer)
    labels = [IGNORED] * len(whole.ids)
    for parts in rendered.turns:
        said = [
            place
            for place, (left, right) in enumerate(whole.offsets)
            if any(start <= left and right <= end for start, end in parts)
        ]
        ends = [place for place in said if whole.ids[place] in stops]
        if not any(rendered.text[slice(*whole.offsets[place])].strip() for place in said if place not in ends):
            raise says_nothing(example)
        if not ends:
            raise _never_stops(tokenizer, example, stops, [whole.ids[place] for place in said[-8:]])
        for place in said:  # what the template writes after the stop token is not generated
            labels[place] = whole.ids[place] if place <= ends[-1] else IGNORED
    return Piece(whole.ids, labels)


@dataclass(frozen=True)
class _Encoded:
    ids: list[int]
    offsets: list[Span]


def _encode(text: str, tokenizer: Any, shift: int = 0) -> _Encoded:
    """Tokens of a text that already has its special tokens."""
    if not tokenizer.is_fast:
        what = f"{type(tokenizer).__name__} does not say which characters each token covers."
        fix = "Use a model with a tokenizer.json (a fast tokenizer)."
        raise ModelError(what, where="model.source", fix=fix)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = encoded["offset_mapping"]
    if shift:
        offsets = [(start + shift, end + shift) for start, end in offsets]
    return _Encoded(list(encoded["input_ids"]), offsets)


def _apart(whole: _Encoded, prompt: _Encoded, rendered: Rendered, tokenizer: Any) -> _Encoded:
    """Prompt and answer tokenised separately, for when one token of the whole spans both.

    That happens if an answer begins with a line break. A tokenizer that puts a space before any text would change the
    answer: then the whole is kept.
    """
    rest = _encode(rendered.text[rendered.prompt_end :], tokenizer, shift=rendered.prompt_end)
    both = _Encoded(prompt.ids + rest.ids, prompt.offsets + rest.offsets)
    apart, together = (
        tokenizer.decode(encoded.ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        for encoded in (both, whole)
    )
    return both if apart == together else whole


def _never_stops(tokenizer: Any, example: Example, stops: list[int], last: list[int]) -> ModelError:
    tokens = ", ".join(f"{tokenizer.convert_ids_to_tokens(stop)!r} ({stop})" for stop in stops) or "none"
    return ModelError(
        "The chat template never trains a stop token, so the tuned model would not learn when to stop: generation "
        f"stops on {tokens}, but what the assistant says ends in {tokenizer.decode(last)!r}.",
        where=f"{WHERE}, which ends in {template_text(tokenizer, example.tools)[-80:]!r}; seen at {example.origin}",
        fix="End the assistant's turn with a stop token in the template (model.chat_template), or add the token that "
        "ends it to eos_token_id in the model's generation_config.json.",
    )


def render_prompt(
    messages: Sequence[Mapping[str, Any]], tokenizer: Any, tools: Sequence[dict[str, Any]] | None = None
) -> list[int]:
    """Token ids of a prompt, with the generation prompt, as in training.

    Raises:
        ModelError: the tokenizer has no chat template.
        DataError: the template rejects these messages.
    """
    return _encode(render(messages, tokenizer, tools, generation_prompt=True), tokenizer).ids


def check_template(tokenizer: Any, example: Example) -> None:
    """Check that training on this example teaches the model to answer, and to stop.

    Raises:
        ModelError: no chat template, one that never trains the stop token, or one that cannot be used for training.
        DataError: the example has no token to train on, or the template rejects it.
    """
    if not any(piece.is_trained for piece in _whole(example, tokenizer)):
        raise DataError(
            "The example has no token to train on.", where=example.origin, fix="Give it an answer, or remove it."
        )
