"""Tools and calls of them: checked, and brought to the one form that chat templates expect."""

from __future__ import annotations

from typing import Any

from training.data.values import RowError, describe, from_json_text, plain_json

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
