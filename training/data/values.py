"""Values of a row: each checked, described in words, and the error that names a bad one."""

from __future__ import annotations

import json
from typing import Any


class RowError(ValueError):
    """A value of a row is not what its layout needs. Curation adds the row's origin, and stops or sets the row aside.

    Args:
        field: the value's place in the row, such as `messages[1].content`.
        what: what is wrong with it.
        fix: what to do about it.
    """

    def __init__(self, field: str, what: str, fix: str) -> None:
        super().__init__(f"{field} {what}; {fix}")


def describe(value: Any) -> str:
    """What a value is, for messages: "a number (3)", "null", "an array"."""
    match value:
        case None:
            return "null"
        case bool():
            return f"{value}".lower()
        case float() if value != value:
            return "NaN (an empty cell?)"
        case int() | float():
            return f"a number ({value})"
        case str():
            return f"text ({value[:30]!r}{'...' * (len(value) > 30)})"
        case list() | tuple():
            return "an array"
        case dict():
            return "an object"
    return f"of type {type(value).__name__}"


def text_of(value: Any, field: str) -> str:
    """A text that is more than white space, and that UTF-8 can hold."""
    if isinstance(value, str) and value and not value.isspace():
        return encodable(value, field)
    if isinstance(value, str):
        raise RowError(field, "is empty", "write text there or remove the row")
    as_json = ", a structured value as JSON text" if isinstance(value, dict | list) else ""
    raise RowError(field, f"is {describe(value)}", f"write text there{as_json}")


def encodable(value: str, field: str) -> str:
    """The text, if UTF-8 can hold it: JSON's \\ud800 by itself is half a character."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            what = f"has half a character (a lone surrogate) at position {error.start}"
            raise RowError(field, what, "remove it or write the whole pair") from None
    return value


def optional_text(value: Any, field: str) -> str | None:
    """A text, or None for what is missing or empty."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, str) and (not value or value.isspace()):
        return None
    return text_of(value, field)


def list_of(value: Any, field: str) -> list[Any]:
    """A list that is not empty, or the JSON text of one, which is how CSV has to write it."""
    value = from_json_text(value, field) if isinstance(value, str) else value
    if not isinstance(value, list):
        raise RowError(field, f"is {describe(value)}", "write a list of objects")
    if not value:
        raise RowError(field, "is an empty list", "remove the row")
    return value


def from_json_text(value: str, field: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        problem = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise RowError(field, f"is text that is not JSON ({problem}): {value[:30]!r}", "write JSON") from None


def plain_json(value: Any, field: str) -> Any:
    """The value, if JSON can hold it: no NaN, no dates, no half characters."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise RowError(field, f"holds what JSON cannot ({error})", "write numbers, text, lists and objects") from None
    return value
