"""The layouts a row can have: found from its columns, checked field by field, turned into an Example."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from runspec.data import Layout
from runspec.errors import DataError
from training.data.example import Example

NEEDED: Mapping[str, tuple[str, ...]] = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "prompt_completion": ("prompt", "completion"),
    "alpaca": ("instruction", "output"),
    "text": ("text",),
}
"""The columns that each layout needs, in the order they are looked for."""
ROLES = ("system", "developer", "user", "assistant", "tool")
SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}
Values = Mapping[str, Any]


class BadRowError(Exception):
    """What is wrong with a row: field, and how to mend it. Becomes a DataError or a row set aside."""


def detect(rows: list[Values]) -> Layout:
    """The layout of the first rows, from the columns they have.

    Raises:
        DataError: none fits.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    for layout, needed in NEEDED.items():
        if all(column in columns for column in needed):
            return layout  # type: ignore[return-value]  # NEEDED's keys are Layouts
    raise _undetected(columns)


def _undetected(columns: list[str]) -> DataError:
    wanted = [column for needed in NEEDED.values() for column in needed]
    lowered = {column.lower(): column for column in columns}
    near = [(want, get_close_matches(want, lowered, n=1, cutoff=0.75)) for want in wanted]
    hints = [f"rename {lowered[found[0]]!r} to {want!r}" for want, found in near if found]
    layouts = "; ".join(f"{layout}: {', '.join(needed)}" for layout, needed in NEEDED.items())
    return DataError(
        f"No known layout has the columns {', '.join(map(repr, columns)) or '(none)'}.",
        where="data.layout",
        fix=(f"{'; '.join(hints)}. " if hints else "") + f"Layouts and the columns they need: {layouts}",
    )


def to_example(values: Values, layout: str, origin: str, *, system_prompt: str | None, group_key: str | None) -> Example:
    """Turn a row into an example.

    Args:
        layout: one of `NEEDED`.
        system_prompt: put before a conversation that has no system message.
        group_key: column that keeps rows together.

    Raises:
        BadRowError: a field is missing or wrong.
    """
    missing = [column for column in NEEDED[layout] if values.get(column) is None]
    if missing:
        raise BadRowError(f"field {missing[0]!r} is missing or null")
    group = _group(values, group_key)
    if layout == "text":
        return Example((), _text(values["text"], "text"), None, group, origin)
    messages = _CONVERTERS[layout](values)
    _check(messages)
    if system_prompt is not None and messages[0]["role"] not in ("system", "developer"):
        messages = [{"role": "system", "content": system_prompt}, *messages]
    return Example(tuple(messages), None, _tools(values.get("tools")), group, origin)


def _group(values: Values, key: str | None) -> str | None:
    if key is None:
        return None
    if values.get(key) is None:
        near = get_close_matches(key, list(values), n=1)
        raise BadRowError(f"field {key!r}, the group key, is missing" + (f" (is it {near[0]!r}?)" if near else ""))
    return str(values[key])


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise BadRowError(f"field {field!r} is {_kind(value)}, not a string")
    if not value.strip():
        raise BadRowError(f"field {field!r} is empty")
    return value


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return "NaN" if value != value else f"a {type(value).__name__}"


def _from_messages(values: Values) -> list[dict[str, Any]]:
    return _message_list(values["messages"], "messages")


def _from_prompt_completion(values: Values) -> list[dict[str, Any]]:
    prompt, completion = values["prompt"], values["completion"]
    return [*_side(prompt, "prompt", "user"), *_side(completion, "completion", "assistant")]


def _side(value: Any, field: str, role: str) -> list[dict[str, Any]]:
    if isinstance(value, str):
        return [{"role": role, "content": _text(value, field)}]
    return _message_list(value, field)


def _from_alpaca(values: Values) -> list[dict[str, Any]]:
    instruction = _text(values["instruction"], "instruction")
    given = values.get("input")
    if isinstance(given, str) and given.strip():
        instruction = f"{instruction}\n\n{given}"
    elif given is not None and not isinstance(given, str) and given == given:
        raise BadRowError(f"field 'input' is {_kind(given)}, not a string")
    messages = [{"role": "user", "content": instruction}]
    messages.append({"role": "assistant", "content": _text(values["output"], "output")})
    system = values.get("system")
    return [{"role": "system", "content": _text(system, "system")}, *messages] if system else messages


def _from_sharegpt(values: Values) -> list[dict[str, Any]]:
    turns = values["conversations"]
    if not isinstance(turns, list):
        raise BadRowError(f"field 'conversations' is {_kind(turns)}, not a list")
    messages = [_sharegpt_turn(turn, f"conversations[{place}]") for place, turn in enumerate(turns)]
    system = values.get("system")
    return [{"role": "system", "content": _text(system, "system")}, *messages] if system else messages


def _sharegpt_turn(turn: Any, field: str) -> dict[str, Any]:
    if not isinstance(turn, dict) or "from" not in turn or "value" not in turn:
        raise BadRowError(f"field {field!r} needs `from` and `value`")
    if turn["from"] not in SHAREGPT_ROLES:
        raise BadRowError(f"field {field + '.from'!r} is {turn['from']!r}, not one of {', '.join(SHAREGPT_ROLES)}")
    value = _text(turn["value"], f"{field}.value")
    if turn["from"] == "function_call":
        return {"role": "assistant", "content": "", "tool_calls": [_called(value, f"{field}.value")]}
    return {"role": SHAREGPT_ROLES[turn["from"]], "content": value}


def _called(value: str, field: str) -> dict[str, Any]:
    try:
        call = json.loads(value)
        return {"type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
    except (ValueError, KeyError, TypeError):
        raise BadRowError(f"field {field!r} is a function call, but not JSON with `name` and `arguments`") from None


_CONVERTERS: dict[str, Callable[[Values], list[dict[str, Any]]]] = {
    "messages": _from_messages,
    "sharegpt": _from_sharegpt,
    "prompt_completion": _from_prompt_completion,
    "alpaca": _from_alpaca,
}


def _message_list(value: Any, field: str) -> list[dict[str, Any]]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise BadRowError(f"field {field!r} is a string, but not JSON") from None
    if not isinstance(value, list):
        raise BadRowError(f"field {field!r} is {_kind(value)}, not a list")
    return [_message(one, f"{field}[{place}]") for place, one in enumerate(value)]


def _message(value: Any, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRowError(f"field {field!r} is {_kind(value)}, not an object with role and content")
    role = value.get("role")
    if role not in ROLES:
        raise BadRowError(f"field {field + '.role'!r} is {role!r}, not one of {', '.join(ROLES)}")
    kept = {key: one for key, one in value.items() if one is not None}
    calls = kept.get("tool_calls")
    if calls is not None:
        _check_calls(calls, f"{field}.tool_calls")
    if not calls:
        kept["content"] = _text(value.get("content"), f"{field}.content")
    else:
        kept.setdefault("content", "")
    return kept


def _check_calls(calls: Any, field: str) -> None:
    if not isinstance(calls, list):
        raise BadRowError(f"field {field!r} is {_kind(calls)}, not a list")
    for place, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRowError(f"field '{field}[{place}]' needs function.name and function.arguments")


def _check(messages: list[dict[str, Any]]) -> None:
    """What every chat template assumes of a conversation."""
    roles = [message["role"] for message in messages]
    if not roles:
        raise BadRowError("the conversation is empty")
    if "assistant" not in roles:
        raise BadRowError("no message has role 'assistant', so there is nothing to train on")
    if roles[-1] != "assistant":
        raise BadRowError(f"the last message has role {roles[-1]!r}, not 'assistant': cut the conversation before it")
    for place, role in enumerate(roles):
        if role in ("system", "developer") and place > 0:
            raise BadRowError(f"message {place} has role {role!r}, which may only come first")
    for place in range(1, len(roles)):
        if roles[place] == "user" == roles[place - 1]:
            raise BadRowError(f"messages {place - 1} and {place} both have role 'user': join them")


def _tools(value: Any) -> tuple[dict[str, Any], ...] | None:
    if value in (None, "", []):
        return None
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise BadRowError("field 'tools' is a string, but not JSON") from None
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise BadRowError("field 'tools' is not a list of objects")
    return tuple(value)
