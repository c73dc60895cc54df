"""What a row says, as plain text: the part that users say, the part that is trained on, and both together."""

from __future__ import annotations

import json
from collections.abc import Iterable

from runspec.filters import Subject
from training.data.example import Example, Message


def prompt_text(example: Example) -> str:
    """What users say, a message a line; empty for plain text."""
    return _joined(message for message in example.messages if message["role"] == "user")


def answer_text(example: Example) -> str:
    """What is trained on: the assistant's messages that count, with the tools they call; of a plain text, all of it."""
    if example.text is not None:
        return example.text
    said = (message for message in example.messages if message["role"] == "assistant")
    return _joined(message for message in said if message.get("weight") != 0)


def row_text(example: Example) -> str:
    """What users and the assistant say, in the order they say it, and the rejected answer where there is one.

    System messages and what tools return are left out: they are often the same in every row.
    """
    if example.text is not None:
        return example.text
    turns = (message for message in example.messages if message["role"] in ("user", "assistant"))
    return _joined((*turns, *(example.rejected or ())))


def text_of_subject(example: Example, subject: Subject) -> str:
    """The part of a row that a filter looks at."""
    match subject:
        case "prompt":
            return prompt_text(example)
        case "answer":
            return answer_text(example)
        case "row":
            return row_text(example)


def _joined(messages: Iterable[Message]) -> str:
    return "\n".join(filter(None, map(_said, messages)))


def _said(message: Message) -> str:
    calls = [call["function"] for call in message.get("tool_calls", ())]
    return "\n".join(filter(None, [str(message["content"]), *(json.dumps(call, sort_keys=True) for call in calls)]))
