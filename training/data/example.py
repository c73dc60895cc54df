"""One training or evaluation example, whatever layout its row had."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Example:
    """A conversation that ends with the assistant, or a plain text.

    Attributes:
        messages: OpenAI form (role, content, and where there are any tool_calls, tool_call_id, name); empty for text.
        text: the plain text; None for a conversation.
        tools: JSON Schemas of the tools that the template may show the model.
        group: what keeps rows together in the split; None where each row stands for itself.
        origin: file and row, for people.
    """

    messages: tuple[dict[str, Any], ...]
    text: str | None
    tools: tuple[dict[str, Any], ...] | None
    group: str | None
    origin: str

    @property
    def prompt(self) -> list[dict[str, Any]]:
        """All messages before the last one, which is the assistant's."""
        return list(self.messages[:-1])

    @property
    def reference(self) -> str:
        """What the assistant says last; of a plain text, all of it."""
        return str(self.messages[-1].get("content") or "") if self.messages else (self.text or "")

    @cached_property
    def digest(self) -> str:
        """sha256 of the content, wherever the row stood."""
        content = [self.messages, self.text, self.tools]
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """As it is stored with a run."""
        return {
            "messages": list(self.messages),
            "text": self.text,
            "tools": list(self.tools) if self.tools is not None else None,
            "group": self.group,
            "origin": self.origin,
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> Example:
        """The inverse of `to_json`."""
        tools = value["tools"]
        return Example(
            messages=tuple(value["messages"]),
            text=value["text"],
            tools=tuple(tools) if tools is not None else None,
            group=value["group"],
            origin=value["origin"],
        )
