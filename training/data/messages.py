"""Messages, tools and calls of them: checked, and brought to the one form that chat templates expect.

Each function takes a value as the row has it and its place in the row, such as `messages[1]`, and raises RowError.
"""

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
"""ShareGPT's `from` to the role of a message."""
CALL_FIX = 'write {"type": "function", "function": {"name": ..., "arguments": {...}}}'
TOOL_FIX = 'write {"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}}'


def read_message(value: Any, field: str) -> Message:
    """A message in OpenAI's form: `role`, `content`, for the assistant `tool_calls` and `weight`."""
    if not isinstance(value, dict):
        raise RowError(field, f"is {describe(value)}", 'write {"role": ..., "content": ...}')
    if "role" not in value:
        fix = "name the column conversations (layout sharegpt)" if "from" in value else f"add one of {', '.join(ROLES)}"
        raise RowError(field, f"has no role, only {', '.join(map(str, value)) or 'nothing'}", fix)
    role = value["role"]
    if role not in ROLES:
        raise RowError(f"{field}.role", f"is {_quoted(role)}", _name_fix(role, ROLES, MISNAMED))
    message: Message = {"role": role}
    calls, weight = value.get("tool_calls"), value.get("weight")
    if calls is not None and calls != []:
        if role != "assistant":
            raise RowError(f"{field}.tool_calls", f"is in a message of {role!r}", "only the assistant calls tools")
        message["tool_calls"] = _read_calls(calls, f"{field}.tool_calls")
    message["content"] = _content(value, field, may_be_empty=role in ("tool", "system"), has_calls=bool(calls))
    message |= {key: plain_json(value[key], f"{field}.{key}") for key in PASSED_ON if value.get(key) is not None}
    if weight is not None:
        if not isinstance(weight, int | float) or weight not in (0, 1):
            raise RowError(f"{field}.weight", f"is {describe(weight)}", "write 0 (not trained on) or 1")
        if role != "assistant":
            what = f"is in a message of {role!r}"
            raise RowError(f"{field}.weight", what, "only what the assistant says is trained on")
        if weight == 0:
            message["weight"] = 0
    return message


def _content(value: dict[str, Any], field: str, *, may_be_empty: bool, has_calls: bool) -> str:
    content = value.get("content")
    if has_calls and content is None:
        return ""
    if isinstance(content, str) and (may_be_empty or has_calls):
        return encodable(content, f"{field}.content")
    if "content" not in value:
        raise RowError(f"{field}.content", "is missing", "write what the message says")
    return text_of(content, f"{field}.content")


def read_turn(value: Any, field: str) -> Message:
    """A ShareGPT turn as a message; the value of a `function_call` is JSON: a call {name, arguments} or a list."""
    if not isinstance(value, dict):
        raise RowError(field, f"is {describe(value)}", 'write {"from": ..., "value": ...}')
    if "from" not in value:
        fix = "name the column messages (layout messages)" if "role" in value else "add who speaks"
        raise RowError(field, f"has no 'from', only {', '.join(map(str, value)) or 'nothing'}", fix)
    speaker = value["from"]
    if not isinstance(speaker, str) or speaker not in SPEAKERS:
        raise RowError(f"{field}.from", f"is {_quoted(speaker)}", _name_fix(speaker, tuple(SPEAKERS), {}))
    if "value" not in value:
        raise RowError(f"{field}.value", "is missing", "write what was said")
    said, field = value["value"], f"{field}.value"
    if speaker == "function_call":
        said = from_json_text(said, field) if isinstance(said, str) else said
        calls = _read_calls(said if isinstance(said, list) else [said], field)
        return {"role": "assistant", "content": "", "tool_calls": calls}
    role = SPEAKERS[speaker]
    may_be_empty = role in ("system", "tool") and isinstance(said, str)
    return {"role": role, "content": encodable(said, field) if may_be_empty else text_of(said, field)}


def _quoted(name: Any) -> str:
    return repr(name) if isinstance(name, str) else describe(name)


def _name_fix(name: Any, known: Sequence[str], others: dict[str, str]) -> str:
    lowered = str(name).lower()
    near = others.get(lowered) or next(iter(get_close_matches(lowered, known, n=1)), None)
    return f"write {near!r}" if near else f"write one of {', '.join(known)}"


def check_order(messages: Sequence[Message], fields: Sequence[str], column: str) -> None:
    """Check who speaks after whom: system first if at all, then the user; user and assistant never twice in a row.

    Args:
        fields: the place of each message in the row.
        column: the column of the conversation.
    """
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        raise RowError(column, "has no assistant message", "add the answer: it is what is trained on")
    before = None
    for role, field in zip(roles, fields, strict=True):
        if role == "system" and before is not None:
            raise RowError(field, "is of 'system' but not first", "put the system message first and have one only")
        if role in ("user", "assistant") and role == before:
            raise RowError(field, f"follows another message of {role!r}", "join the two")
        if role == "assistant" and before in (None, "system"):
            raise RowError(field, "is of 'assistant' with no question before it", "start with a user message")
        if role == "tool" and before not in ("assistant", "tool"):
            fix = "put it after the assistant's call"
            raise RowError(field, "is of 'tool' but follows no assistant message", fix)
        before = role
    if before != "assistant":
        raise RowError(fields[-1], f"is the last message and is of {before!r}", "end with the assistant's answer")
    if all(message.get("weight") == 0 for message in messages if message["role"] == "assistant"):
        raise RowError(column, "has weight 0 in every assistant message", "set one to 1, or remove the row")


def read_tools(value: Any, field: str) -> tuple[dict[str, Any], ...] | None:
    """The functions that the assistant may call, as OpenAI's API has them.

    Args:
        value: a list of them or its JSON text, each with or without the wrapper `{"type": "function", ...}`; null or
            empty where there are none.
    """
    if isinstance(value, str):
        value = from_json_text(value, field) if value.strip() else None
    if value is None or value == [] or (isinstance(value, float) and value != value):
        return None
    if not isinstance(value, list):
        raise RowError(field, f"is {describe(value)}", "write a list of tools, or its JSON text")
    return tuple(_read_tool(tool, f"{field}[{place}]") for place, tool in enumerate(value))


def _read_tool(value: Any, field: str) -> dict[str, Any]:
    value = from_json_text(value, field) if isinstance(value, str) else value
    function = _function(value, field, TOOL_FIX)
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise RowError(f"{field}.parameters", f"is {describe(parameters)}", "write a JSON schema (an object)")
    return {"type": "function", "function": plain_json(function, field)}


def _read_calls(value: Any, field: str) -> list[dict[str, Any]]:
    """The calls of one assistant message; arguments become objects, because templates write them as JSON themselves."""
    value = from_json_text(value, field) if isinstance(value, str) else value
    if not isinstance(value, list) or not value:
        raise RowError(field, f"is {'empty' if value == [] else describe(value)}", "write a list of calls")
    return [_read_call(call, f"{field}[{place}]") for place, call in enumerate(value)]


def _read_call(value: Any, field: str) -> dict[str, Any]:
    function = _function(value, field, CALL_FIX)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = from_json_text(arguments, f"{field}.arguments")
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, dict):
        raise RowError(f"{field}.arguments", f"is {describe(arguments)}", "write an object of names and values")
    called = {"name": function["name"], "arguments": plain_json(arguments, f"{field}.arguments")}
    call: dict[str, Any] = {"type": "function", "function": called}
    return call if value.get("id") is None else call | {"id": plain_json(value["id"], f"{field}.id")}


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
        raise RowError(f"{field}.name", "is empty" if name == "" else f"is {describe(name)}", fix)
    return function
