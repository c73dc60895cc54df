"""Messages, tools and calls of them: checked, and brought to the one form that chat templates expect."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from training.data.example import Message
from training.data.values import RowError, describe, encodable, from_json_text, plain_json, text_of

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


SPEAKERS = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}
"""`from` to the role of a message."""


def read_turn(value: Any, field: str) -> Message:
    """A turn as a message; the value of a `function_call` is JSON: a call {name, arguments} or a list of them.

    Raises:
        RowError: naming the field and the fix.
    """
    if not isinstance(value, dict):
        raise RowError(field, f"is {describe(value)}", 'write {"from": ..., "value": ...}')
    speaker = _speaker(value, field)
    said = value.get("value")
    if "value" not in value:
        raise RowError(f"{field}.value", "is missing", "write what was said")
    if speaker == "function_call":
        return {"role": "assistant", "content": "", "tool_calls": _calls(said, f"{field}.value")}
    role = SPEAKERS[speaker]
    if role in ("system", "tool") and isinstance(said, str):
        return {"role": role, "content": encodable(said, f"{field}.value")}
    return {"role": role, "content": text_of(said, f"{field}.value")}


def _speaker(value: dict[str, Any], field: str) -> str:
    if "from" not in value:
        hint = "name the column messages (layout messages)" if "role" in value else "add who speaks"
        raise RowError(field, f"has no 'from', only {', '.join(map(str, value)) or 'nothing'}", hint)
    speaker = value["from"]
    if isinstance(speaker, str) and speaker in SPEAKERS:
        return speaker
    what = f"is {speaker!r}" if isinstance(speaker, str) else f"is {describe(speaker)}"
    near = get_close_matches(str(speaker).lower(), SPEAKERS, n=1)
    raise RowError(f"{field}.from", what, f"write {near[0]!r}" if near else f"write one of {', '.join(SPEAKERS)}")


def _calls(said: Any, field: str) -> list[dict[str, Any]]:
    said = from_json_text(said, field) if isinstance(said, str) else said
    return read_calls(said if isinstance(said, list) else [said], field)


CALL_FIX = 'write {"type": "function", "function": {"name": ..., "arguments": {...}}}'
TOOL_FIX = 'write {"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}}'


def read_tools(value: Any, field: str) -> tuple[dict[str, Any], ...] | None:
    """The functions that the assistant may call, as OpenAI's API has them.

    Args:
        value: a list of them or its JSON text, each with or without the wrapper `{"type": "function", ...}`; nothing
            (null, empty) where there are none.
        field: its place in the row.

    Raises:
        RowError: not well-formed.
    """
    if isinstance(value, str):
        value = from_json_text(value, field) if value.strip() else None
    if value is None or value == [] or (isinstance(value, float) and value != value):
        return None
    if not isinstance(value, list):
        raise RowError(field, f"is {describe(value)}", "write a list of tools, or its JSON text")
    return tuple(_tool(tool, f"{field}[{place}]") for place, tool in enumerate(value))


def _tool(value: Any, field: str) -> dict[str, Any]:
    value = from_json_text(value, field) if isinstance(value, str) else value
    function = _function(value, field, TOOL_FIX)
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise RowError(f"{field}.parameters", f"is {describe(parameters)}", "write a JSON schema (an object)")
    return {"type": "function", "function": plain_json(function, field)}


def read_calls(value: Any, field: str) -> list[dict[str, Any]]:
    """The calls of one assistant message; arguments become objects, for templates write them as JSON themselves.

    Raises:
        RowError: not well-formed.
    """
    value = from_json_text(value, field) if isinstance(value, str) else value
    if not isinstance(value, list) or not value:
        raise RowError(field, f"is {'empty' if value == [] else describe(value)}", "write a list of calls")
    return [_call(call, f"{field}[{place}]") for place, call in enumerate(value)]


def _call(value: Any, field: str) -> dict[str, Any]:
    function = _function(value, field, CALL_FIX)
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        arguments = from_json_text(arguments, f"{field}.arguments")
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise RowError(f"{field}.arguments", f"is {describe(arguments)}", "write an object of names and values")
    call: dict[str, Any] = {
        "type": "function",
        "function": {"name": function["name"], "arguments": plain_json(arguments, f"{field}.arguments")},
    }
    if value.get("id") is not None:
        call["id"] = plain_json(value["id"], f"{field}.id")
    return call


def _function(value: Any, field: str, fix: str) -> dict[str, Any]:
    """What is inside the wrapper, with a name."""
    if not isinstance(value, dict):
        raise RowError(field, f"is {describe(value)}", fix)
    if value.get("type", "function") not in ("function", None):
        raise RowError(f"{field}.type", f"is {value['type']!r}", "only functions are supported: write 'function'")
    function = value.get("function", value)
    if not isinstance(function, dict):
        raise RowError(f"{field}.function", f"is {describe(function)}", fix)
    name = function.get("name")
    if not isinstance(name, str) or not name.strip():
        raise RowError(f"{field}.name", f"is {describe(name)}" if name != "" else "is empty", fix)
    return function
