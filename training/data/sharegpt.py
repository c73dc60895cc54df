"""Turns of ShareGPT conversations, `from` and `value`, as messages."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from training.data.example import Message
from training.data.tool_calls import read_calls
from training.data.values import RowError, describe, encodable, from_json_text, text_of

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
