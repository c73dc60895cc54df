"""One training example: a conversation or a plain text, with the place it came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Message = dict[str, Any]
"""A message as the OpenAI API has it: `role`, `content`, for the assistant perhaps `tool_calls`.

Arguments of tool calls are objects, not JSON text, as chat templates expect them. `weight: 0` marks an assistant
message that is context and is not trained on, as in OpenAI's fine-tuning format; without it the message is trained on.
"""


@dataclass(frozen=True)
class Example:
    """A validated row.

    Attributes:
        messages: the conversation, the assistant's message last; empty for plain text.
        text: plain text; None for a conversation.
        tools: JSON schemas of the functions that the assistant may call; None where there are none.
        rejected: in a preference row, the worse answer's messages, which would stand in place of `completion`.
        label: in a labelled row, whether the answer is good; None elsewhere.
        group: value of the group key; None where rows stand by themselves.
        stratum: value of the column that training rows are balanced by; None where they are not.
        replay: whether the row was mixed in against forgetting, and is none of the task's.
        origin: file, line and row, for messages to the user.
    """

    messages: tuple[Message, ...] = ()
    text: str | None = None
    tools: tuple[dict[str, Any], ...] | None = None
    rejected: tuple[Message, ...] | None = None
    label: bool | None = None
    group: str | None = None
    stratum: str | None = None
    replay: bool = False
    origin: str = ""

    @property
    def prompt(self) -> tuple[Message, ...]:
        """What the model is given at evaluation: everything before the last assistant message."""
        return self.messages[: self._last_assistant]

    @property
    def completion(self) -> tuple[Message, ...]:
        """What follows the prompt: the last assistant message."""
        return self.messages[self._last_assistant :]

    @property
    def reference(self) -> str:
        """What it should answer: the last assistant message's content; of a plain text, all of it."""
        return str(self.messages[self._last_assistant]["content"]) if self.messages else self.text or ""

    @property
    def prompt_text(self) -> str:
        """What users say, a message a line; empty for plain text."""
        return _joined(message for message in self.messages if message["role"] == "user")

    @property
    def answer_text(self) -> str:
        """What is trained on: the assistant's messages that count, with the tools they call; all of a plain text."""
        if self.text is not None:
            return self.text
        said = (message for message in self.messages if message["role"] == "assistant")
        return _joined(message for message in said if message.get("weight") != 0)

    @property
    def row_text(self) -> str:
        """What users and the assistant say, in order, and the rejected answer where there is one.

        System messages and what tools return are left out: they are often the same in every row.
        """
        if self.text is not None:
            return self.text
        turns = (message for message in self.messages if message["role"] in ("user", "assistant"))
        return _joined((*turns, *(self.rejected or ())))

    @property
    def is_good(self) -> bool:
        """Whether its answer is one to imitate: all are but those labelled bad."""
        return self.label is not False

    @property
    def _last_assistant(self) -> int:
        places = [place for place, message in enumerate(self.messages) if message["role"] == "assistant"]
        return places[-1] if places else 0

    @cached_property
    def digest(self) -> str:
        """sha256 of what the row says, in hexadecimal: equal for identical rows, whatever their group and origin."""
        content: list[Any] = [self.messages, self.text, self.tools]
        if self.rejected is not None or self.label is not None:
            content += [self.rejected, self.label]
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, without the fields that are not set."""
        fields = {
            "messages": list(self.messages) or None,
            "text": self.text,
            "tools": None if self.tools is None else list(self.tools),
            "rejected": None if self.rejected is None else list(self.rejected),
            "label": self.label,
            "group": self.group,
            "stratum": self.stratum,
            "replay": self.replay or None,
            "origin": self.origin,
        }
        return {name: value for name, value in fields.items() if value is not None}

    @staticmethod
    def from_json(values: dict[str, Any]) -> Example:
        """What `to_json` gave."""
        tools, rejected = values.get("tools"), values.get("rejected")
        return Example(
            messages=tuple(values.get("messages", ())),
            text=values.get("text"),
            tools=None if tools is None else tuple(tools),
            rejected=None if rejected is None else tuple(rejected),
            label=values.get("label"),
            group=values.get("group"),
            stratum=values.get("stratum"),
            replay=values.get("replay", False),
            origin=values.get("origin", ""),
        )


def _joined(messages: Iterable[Message]) -> str:
    """What messages say and the tools they call, as plain text."""
    lines = []
    for message in messages:
        lines.append(str(message["content"]))
        lines += [json.dumps(call["function"], sort_keys=True) for call in message.get("tool_calls", ())]
    return "\n".join(filter(None, lines))
