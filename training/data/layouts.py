"""Layouts of rows: which one it is, and each row turned into an Example.

    messages           messages: [{role, content}, ...]
    prompt_completion  prompt, completion: both text, or both lists of messages; only the completion is trained on
    alpaca             instruction, output, perhaps input
    sharegpt           conversations: [{from, value}, ...]
    text               text
    preference         prompt, chosen, rejected; or chosen and rejected, both the whole conversation
    labelled           prompt, completion, label: whether the completion is good

`tools` may stand beside messages, prompt/completion and conversations; `system` beside all but messages and text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from runspec.data import CONVERSATIONS, Layout
from runspec.errors import DataError
from training.data.columns import column_value
from training.data.conversation import check_order, read_message
from training.data.example import Example, Message
from training.data.files import Row
from training.data.judged import leading_system, read_label, read_pair
from training.data.sharegpt import read_turn
from training.data.tool_calls import read_tools
from training.data.values import RowError, describe, list_of, optional_text, text_of

NEEDS: dict[Layout, tuple[str, ...]] = {
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
    "alpaca": ("instruction", "output"),
    "sharegpt": ("conversations",),
    "text": ("text",),
    "preference": ("chosen", "rejected"),
    "labelled": ("prompt", "completion", "label"),
}
"""The columns that each layout cannot do without."""


def choose_layout(
    asked: Layout,
    rows: Sequence[Row],
    source: str,
    among: Sequence[Layout] = CONVERSATIONS,
    *,
    key: str = "data.layout",
) -> Layout:
    """The layout of the rows: the one asked for, or with `auto` the only one whose columns most first rows have.

    Args:
        asked: what the run file says.
        rows: the first readable rows.
        source: what messages call the source.
        among: layouts that `auto` looks for: those that the training method can use.
        key: of the run file, that names the layout.

    Raises:
        DataError: no layout or several fit; the message lists the columns found and what the layouts need.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row.values))
    if asked != "auto":
        if not any(_has(row, asked) for row in rows):
            what = f"{source} has no {' and '.join(_missing(asked, columns))}, which layout {asked} needs"
            fix = _near(columns, NEEDS[asked]) or f"name the layout it is in {key}"
            raise _undecided(what, columns, [*dict.fromkeys((asked, *among))], key, fix)
        return asked
    possible = fitting(rows, among)
    if len(possible) == 1:
        return possible[0]
    if possible:
        what = f"{source} can be read in several layouts: {', '.join(possible)}"
        raise _undecided(what, columns, among, key, f"set {key} to the one you mean, for example {possible[0]}")
    every = [name for layout in among for name in NEEDS[layout]]
    what = f"{source} is in no known layout" if among == CONVERSATIONS else f"{source} is not in layout {among[0]}"
    raise _undecided(what, columns, among, key, _near(columns, every) or "rename the columns")


def fitting(rows: Sequence[Row], among: Sequence[Layout]) -> list[Layout]:
    """The layouts whose columns most rows have."""
    return [layout for layout in among if 2 * sum(_has(row, layout) for row in rows) > len(rows)]


def _has(row: Row, layout: Layout) -> bool:
    return all(column in row.values for column in NEEDS[layout])


def _missing(layout: Layout, columns: Sequence[str]) -> list[str]:
    return [repr(column) for column in NEEDS[layout] if column not in columns] or list(map(repr, NEEDS[layout]))


def _undecided(what: str, columns: Sequence[str], among: Sequence[Layout], key: str, fix: str) -> DataError:
    needs = "; ".join(f"{layout} needs {', '.join(NEEDS[layout])}" for layout in among)
    found = ", ".join(columns) or "none"
    return DataError(f"{what}. Columns found: {found}. {needs}", where=key, fix=fix)


def _near(columns: Sequence[str], wanted: Sequence[str]) -> str:
    """The fix for columns that are nearly called what they should be."""
    missing = [name for name in wanted if name not in columns]
    lowered = {column.strip().lower(): column for column in columns if column not in wanted}
    pairs = [(lowered[near[0]], name) for name in missing if (near := get_close_matches(name, lowered, 1, 0.8))]
    return "; ".join(f"rename the column {column!r} to {name!r}" for column, name in pairs)


def read_row(row: Row, layout: Layout, group_key: str | None = None) -> Example:
    """Validate a row and turn it into an Example.

    Raises:
        RowError: naming the field and the fix.
    """
    for column in NEEDS[layout]:
        if column not in row.values:
            raise RowError(column, f"is missing (columns: {', '.join(row.values) or 'none'})", "add that column")
    group = None if group_key is None else column_value(row, group_key, "data.holdout.group_key")
    if layout == "text":
        return Example(text=text_of(row.values["text"], "text"), group=group, origin=row.origin)
    if layout == "preference":
        return replace(read_pair(row.values), group=group, origin=row.origin)
    messages = _READERS[layout](row.values)
    tools = None if layout == "alpaca" else read_tools(row.values.get("tools"), "tools")
    label = read_label(row.values["label"]) if layout == "labelled" else None
    return Example(messages=tuple(messages), tools=tools, label=label, group=group, origin=row.origin)


def _from_messages(values: dict[str, Any]) -> list[Message]:
    return _read_list(values["messages"], "messages")


def _read_list(value: Any, column: str) -> list[Message]:
    turns = list_of(value, column)
    fields = [f"{column}[{place}]" for place in range(len(turns))]
    messages = [read_message(turn, field) for turn, field in zip(turns, fields, strict=True)]
    check_order(messages, fields, column)
    return messages


def _from_prompt_completion(values: dict[str, Any]) -> list[Message]:
    prompt, completion = values["prompt"], values["completion"]
    if isinstance(prompt, list) or isinstance(completion, list):
        return _two_lists(prompt, completion, values)
    user = {"role": "user", "content": text_of(prompt, "prompt")}
    answer = {"role": "assistant", "content": text_of(completion, "completion")}
    return [*leading_system(values), user, answer]


def _two_lists(prompt: Any, completion: Any, values: dict[str, Any]) -> list[Message]:
    messages: list[Message] = []
    fields: list[str] = []
    for column, value in (("prompt", prompt), ("completion", completion)):
        if not isinstance(value, list):
            raise RowError(
                column, f"is {describe(value)}", "write both prompt and completion as text, or both as lists"
            )
        for place, turn in enumerate(list_of(value, column)):
            fields.append(f"{column}[{place}]")
            message = read_message(turn, fields[-1])
            is_context = column == "prompt" and message["role"] == "assistant"
            messages.append(message | {"weight": 0} if is_context else message)
    if messages[len(prompt)]["role"] != "assistant":
        raise RowError("completion[0].role", f"is {messages[len(prompt)]['role']!r}", "begin with the assistant")
    check_order(messages, fields, "completion")
    return messages if messages[0]["role"] == "system" else [*leading_system(values), *messages]


def _from_alpaca(values: dict[str, Any]) -> list[Message]:
    parts = [text_of(values["instruction"], "instruction"), optional_text(values.get("input"), "input")]
    user = {"role": "user", "content": "\n\n".join(part for part in parts if part)}
    return [*leading_system(values), user, {"role": "assistant", "content": text_of(values["output"], "output")}]


def _from_sharegpt(values: dict[str, Any]) -> list[Message]:
    turns = list_of(values["conversations"], "conversations")
    fields = [f"conversations[{place}]" for place in range(len(turns))]
    messages = [read_turn(turn, field) for turn, field in zip(turns, fields, strict=True)]
    check_order(messages, fields, "conversations")
    return messages if messages[0]["role"] == "system" else [*leading_system(values), *messages]


_READERS = {
    "messages": _from_messages,
    "prompt_completion": _from_prompt_completion,
    "alpaca": _from_alpaca,
    "sharegpt": _from_sharegpt,
    "labelled": _from_prompt_completion,
}
