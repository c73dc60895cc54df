"""The base model's chat template applied to a conversation: its text, and the parts that the assistant says.

What the assistant says in a turn is what the template writes between the turn's prompt (all messages before it, with
the generation prompt) and the end of the turn. Templates with `{% generation %}` marks narrow it down. Both texts come
from the template itself, so nothing is assumed about its format except that the second starts with the first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runspec.errors import DataError, ModelError
from training.data.example import Example

MARKS = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
WHERE = "model.chat_template"

Span = tuple[int, int]
"""Start and end of a part of a text, in characters."""


@dataclass(frozen=True)
class Rendered:
    """A conversation as text.

    Attributes:
        text: up to the end of the last turn that is trained on.
        turns: what the assistant says in each turn that is trained on; several parts if the template marks several.
        prompt_end: where the last of these turns begins; the text before it is its prompt at evaluation.
    """

    text: str
    turns: tuple[tuple[Span, ...], ...]
    prompt_end: int


@dataclass(frozen=True)
class _Turn:
    """One assistant message: the conversation's text before it and up to its end."""

    place: int
    prompt: str
    upto: str


def render_conversation(example: Example, tokenizer: Any) -> list[Rendered]:
    """The conversation as one text; or as one per turn if the template renders past turns differently.

    Templates that remove the thinking from past turns do. Each turn then follows the exact prompt that the model will
    see, at the cost of that prompt's tokens for each turn.

    Raises:
        ModelError: the template cannot be used for training on such a conversation.
        DataError: it rejects the conversation.
    """
    turns = [
        _turn(example, place, tokenizer)
        for place, message in enumerate(example.messages)
        if message["role"] == "assistant" and message.get("weight", 1) != 0
    ]
    whole = turns[-1].upto
    if all(whole.startswith(turn.prompt) and whole.startswith(turn.upto) for turn in turns):
        return [_rendered(example, turns, tokenizer)]
    return [_rendered(example, [turn], tokenizer) for turn in turns]


def _turn(example: Example, place: int, tokenizer: Any) -> _Turn:
    messages, tools, origin = example.messages, example.tools, example.origin
    prompt = render(messages[:place], tokenizer, tools, generation_prompt=True, origin=origin)
    upto = render(messages[: place + 1], tokenizer, tools, generation_prompt=False, origin=origin)
    if not upto.startswith(prompt):
        split = next((at for at, pair in enumerate(zip(prompt, upto, strict=False)) if pair[0] != pair[1]), len(upto))
        raise ModelError(
            "The chat template renders a prompt differently once it is answered: "
            f"{prompt[split : split + 40]!r} in the prompt is {upto[split : split + 40]!r} in training.",
            where=f"{WHERE}, at {origin}",
            fix="Set model.chat_template to one whose generation prompt starts the assistant's turn.",
        )
    names = [tool["function"]["name"] for tool in tools or ()]
    calls = [call["function"]["name"] for call in messages[place].get("tool_calls", ())]
    for kind, wanted, text in (("tools", names, prompt), ("tool calls", calls, upto[len(prompt) :])):
        absent = [name for name in wanted if name not in text]
        if absent:  # many templates do so silently
            raise ModelError(
                f"The chat template leaves out {kind} ({absent[0]!r}), so the model would not learn them.",
                where=f"{WHERE}, at {origin}",
                fix="Set model.chat_template to one that renders tools and tool calls, or remove them from the data.",
            )
    return _Turn(place, prompt, upto)


def _rendered(example: Example, turns: Sequence[_Turn], tokenizer: Any) -> Rendered:
    last = turns[-1]
    said: list[tuple[Span, ...]] = [((len(turn.prompt), len(turn.upto)),) for turn in turns]
    if MARKS.search(template_text(tokenizer, example.tools)):
        marked = _marked_spans(example, last.place + 1, tokenizer)
        said = [_within(span, marked, last.upto, example) for (span,) in said]
    return Rendered(last.upto, tuple(said), len(last.prompt))


def says_nothing(example: Example) -> ModelError:
    what = "The chat template leaves out what the assistant says, so there is nothing to train on."
    fix = "Set model.chat_template to one that renders it."
    return ModelError(what, where=f"{WHERE}, at {example.origin}", fix=fix)


def _marked_spans(example: Example, end: int, tokenizer: Any) -> list[Span]:
    encoded = tokenizer.apply_chat_template(
        _plain(example.messages[:end]),
        tools=list(example.tools) if example.tools else None,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        tokenizer_kwargs={"return_offsets_mapping": True},
    )
    spans: list[Span] = []
    before = 0
    for marked, (start, stop) in zip(encoded["assistant_masks"], encoded["offset_mapping"], strict=True):
        if marked and before:
            spans[-1] = (spans[-1][0], stop)
        elif marked:
            spans.append((start, stop))
        before = marked
    return spans


def _within(turn: Span, marked: Sequence[Span], text: str, example: Example) -> tuple[Span, ...]:
    """The marked parts of a turn. The first must begin where the prompt ends: text between is never generated."""
    cut = [(max(start, turn[0]), min(end, turn[1])) for start, end in marked]
    parts = tuple((start, end) for start, end in cut if start < end)
    if not parts:
        raise says_nothing(example)
    between = text[turn[0] : parts[0][0]]
    if between.strip():
        raise ModelError(
            f"The chat template writes {between[:40]!r} between the generation prompt and what is trained on: in "
            "serving, the model is neither given it nor trained to write it.",
            where=f"{WHERE}, at {example.origin}",
            fix="Move it into the generation prompt or between the {% generation %} marks.",
        )
    return parts


def template_text(tokenizer: Any, tools: Sequence[dict[str, Any]] | None = None) -> str:
    """The Jinja text of the chat template, of several the one for tools. Raises ModelError if there is none."""
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            "The base model has no chat template, so it cannot take conversations.",
            where=WHERE,
            fix="Use the chat variant of the model, set model.chat_template to a Jinja file, or train on plain text.",
        )
    return str(tokenizer.get_chat_template(tools=list(tools) if tools else None))


def render(
    messages: Sequence[Mapping[str, Any]],
    tokenizer: Any,
    tools: Sequence[dict[str, Any]] | None = None,
    *,
    generation_prompt: bool,
    origin: str = "",
) -> str:
    """A conversation rendered by the chat template, with special tokens as text.

    Raises:
        ModelError: no template, or one that is not valid Jinja.
        DataError: the template rejects this conversation.
    """
    import jinja2

    template_text(tokenizer, tools)
    try:
        text = tokenizer.apply_chat_template(
            _plain(messages),
            tools=list(tools) if tools else None,
            tokenize=False,
            add_generation_prompt=generation_prompt,
        )
    except jinja2.TemplateSyntaxError as error:
        what = f"The chat template is not valid Jinja: {error.message} (line {error.lineno})."
        raise ModelError(what, where=WHERE, fix="Fix that line.") from error
    except (jinja2.TemplateError, TypeError, KeyError) as error:
        roles = ", ".join(str(message["role"]) for message in messages)
        raise DataError(
            f"The base model's chat template rejects a conversation of {roles}: {error}.",
            where=origin or WHERE,
            fix="Change the data to what the template accepts, or set model.chat_template to another one.",
        ) from error
    return str(text)


def _plain(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in message.items() if key != "weight"} for message in messages]
