"""Conversations: each message checked, and their order."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from training.data.example import Message
from training.data.tool_calls import read_calls
from training.data.values import RowError, describe, encodable, plain_json, text_of

ROLES = ("system", "user", "assistant", "tool")
MISNAMED = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "developer": "system"}
PASSED_ON = ("name", "tool_call_id", "reasoning_content", "reasoning", "thinking")
"""Further keys that chat templates read. Others are left out."""


def read_message(value: Any, field: str) -> Message:
    """A message in OpenAI's form: `role`, `content`, for the assistant `tool_calls` and `weight`.

    Args:
        value: as the row has it.
        field: its place in the row, such as `messages[1]`.

    Raises:
        RowError: a key is missing or not of its type.
    """
    if not isinstance(value, dict):
        raise RowError(field, f"is {describe(value)}", 'write {"role": ..., "content": ...}')
    role = _role(value, field)
    message: Message = {"role": role}
    calls = value.get("tool_calls")
    if calls is not None and calls != []:
        if role != "assistant":
            raise RowError(f"{field}.tool_calls", f"stands in a message of {role!r}", "only the assistant calls tools")
        message["tool_calls"] = read_calls(calls, f"{field}.tool_calls")
    message["content"] = _content(value, role, f"{field}.content", may_be_empty="tool_calls" in message)
    message |= {key: plain_json(value[key], f"{field}.{key}") for key in PASSED_ON if value.get(key) is not None}
    return message | _weight(value, role, f"{field}.weight")


def _role(value: dict[str, Any], field: str) -> str:
    if "role" not in value:
        hint = (
            "name the column conversations (layout sharegpt)" if "from" in value else f"add one of {', '.join(ROLES)}"
        )
        raise RowError(field, f"has no role, only {', '.join(map(str, value)) or 'nothing'}", hint)
    role = value["role"]
    if role in ROLES:
        return str(role)
    what = f"is {role!r}" if isinstance(role, str) else f"is {describe(role)}"
    raise RowError(f"{field}.role", what, _role_fix(role))


def _role_fix(role: Any) -> str:
    near = MISNAMED.get(str(role).lower()) or next(iter(get_close_matches(str(role).lower(), ROLES, n=1)), None)
    return f"write {near!r}" if near else f"write one of {', '.join(ROLES)}"


def _content(value: dict[str, Any], role: str, field: str, *, may_be_empty: bool) -> str:
    content = value.get("content")
    if may_be_empty and content is None:
        return ""
    if isinstance(content, str) and (may_be_empty or role in ("tool", "system")):
        return encodable(content, field)
    if "content" not in value:
        raise RowError(field, "is missing", "write what the message says")
    return text_of(content, field)


def _weight(value: dict[str, Any], role: str, field: str) -> dict[str, int]:
    weight = value.get("weight")
    if weight is None:
        return {}
    if not isinstance(weight, int | float) or weight not in (0, 1):
        raise RowError(field, f"is {describe(weight)}", "write 0 (not trained on) or 1")
    if role != "assistant":
        raise RowError(field, f"stands in a message of {role!r}", "only what the assistant says is trained on")
    return {"weight": 0} if weight == 0 else {}


def check_order(messages: Sequence[Message], fields: Sequence[str], column: str) -> None:
    """Check who speaks after whom: system first if at all, then the user; user and assistant never twice in a row.

    Args:
        messages: the conversation.
        fields: the place of each message in the row.
        column: where the conversation stands.

    Raises:
        RowError: naming the first message that is out of place.
    """
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        raise RowError(column, "has no assistant message", "add the answer: it is what is trained on")
    before = None
    for role, field in zip(roles, fields, strict=True):
        problem = _out_of_place(role, before)
        if problem:
            raise RowError(field, *problem)
        before = role
    if before != "assistant":
        raise RowError(fields[-1], f"is the last message and is of {before!r}", "end with the assistant's answer")
    if all(message.get("weight") == 0 for message in messages if message["role"] == "assistant"):
        raise RowError(column, "has weight 0 in every assistant message", "set one to 1, or remove the row")


def _out_of_place(role: str, before: str | None) -> tuple[str, str] | None:
    """What is wrong with a message after one of the role `before`, and the fix."""
    if role == "system" and before is not None:
        return "is of 'system' but not first", "put the system message first and have one only"
    if role in ("user", "assistant") and role == before:
        return f"follows another message of {role!r}", "join the two"
    if role == "assistant" and before in (None, "system"):
        return "is of 'assistant' with nothing asked before it", "start with a user message"
    if role == "tool" and before not in ("assistant", "tool"):
        return "is of 'tool' but follows no assistant message", "put it after the assistant's call"
    return None
