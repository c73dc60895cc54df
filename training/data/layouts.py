"""Layouts of rows: which one a source is in, and each row turned into an Example.

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

from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from runspec.data import CONVERSATIONS, Layout
from runspec.errors import DataError
from training.data.example import Example, Message
from training.data.files import Row
from training.data.messages import check_order, read_message, read_tools, read_turn
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
"""The columns that each layout needs."""

GOOD = ("true", "1", "good", "yes")
BAD = ("false", "0", "bad", "no")


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
        asked: the run file's `data.layout`.
        rows: the first readable rows.
        source: what messages call the source.
        among: layouts that `auto` looks for: those that the training method can use.
        key: dotted key of the run file that holds `asked`.

    Raises:
        DataError: no layout or several fit; the message lists the columns found and what the layouts need.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row.values))

    def undecided(what: str, among: Sequence[Layout], fix: str) -> DataError:
        needs = "; ".join(f"{layout} needs {', '.join(NEEDS[layout])}" for layout in among)
        found = ", ".join(columns) or "none"
        return DataError(f"{what}. Columns found: {found}. Layouts: {needs}.", where=key, fix=fix)

    if asked != "auto":
        if any(_has(row, asked) for row in rows):
            return asked
        missing = [repr(column) for column in NEEDS[asked] if column not in columns]
        what = f"{source} has no {' and '.join(missing or map(repr, NEEDS[asked]))}, which layout {asked} needs"
        fix = _rename(columns, NEEDS[asked]) or f"Set {key} to the layout that the rows are in."
        raise undecided(what, [*dict.fromkeys((asked, *among))], fix)
    possible = fitting(rows, among)
    if len(possible) == 1:
        return possible[0]
    if possible:
        what = f"{source} can be read in several layouts: {', '.join(possible)}"
        raise undecided(what, among, f"Set {key} to the one you mean, for example {possible[0]}.")
    every = [name for layout in among for name in NEEDS[layout]]
    what = f"{source} is in no known layout" if among == CONVERSATIONS else f"{source} is not in layout {among[0]}"
    raise undecided(what, among, _rename(columns, every) or "Rename the columns.")


def fitting(rows: Sequence[Row], among: Sequence[Layout]) -> list[Layout]:
    """The layouts whose columns most rows have."""
    return [layout for layout in among if 2 * sum(_has(row, layout) for row in rows) > len(rows)]


def _has(row: Row, layout: Layout) -> bool:
    return all(column in row.values for column in NEEDS[layout])


def _rename(columns: Sequence[str], wanted: Sequence[str]) -> str:
    """The fix for columns whose names are nearly right; empty where there are none."""
    missing = [name for name in wanted if name not in columns]
    lowered = {column.strip().lower(): column for column in columns if column not in wanted}
    pairs = [(lowered[near[0]], name) for name in missing if (near := get_close_matches(name, lowered, 1, 0.8))]
    return " ".join(f"Rename the column {column!r} to {name!r}." for column, name in pairs)


def check_column(rows: Sequence[Row], column: str, setting: str, source: str) -> None:
    """Check that a source has a column to group or balance by.

    Args:
        rows: its first readable rows.
        setting: dotted key of the run file that names the column.
        source: what messages call the source.

    Raises:
        DataError: it has not; with the columns it has.
    """
    columns = dict.fromkeys(name for row in rows for name in row.values)
    if column not in columns:
        what = f"{source} has no column {column!r}; it has {', '.join(columns) or 'none'}."
        raise DataError(what, where=setting, fix="Name one of its columns, or remove the key.")


def column_value(row: Row, column: str, setting: str) -> str:
    """A row's value of a column to group or balance by, as text.

    Raises:
        RowError: it has none.
    """
    value = row.values.get(column)
    if isinstance(value, bool | int | str) and str(value).strip():
        return str(value)
    what = f"is {describe(value)}" if column in row.values and value != "" else "is missing"
    raise RowError(column, f"({setting}) {what}", "give every row a value there: text or a whole number")


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
        return replace(_read_pair(row.values), group=group, origin=row.origin)
    messages = _READERS[layout](row.values)
    tools = None if layout == "alpaca" else read_tools(row.values.get("tools"), "tools")
    label = _read_label(row.values["label"]) if layout == "labelled" else None
    return Example(messages=tuple(messages), tools=tools, label=label, group=group, origin=row.origin)


def _from_messages(values: dict[str, Any]) -> list[Message]:
    return _conversation(values["messages"], "messages", read_message)


def _conversation(value: Any, column: str, read: Callable[[Any, str], Message]) -> list[Message]:
    turns = list_of(value, column)
    fields = [f"{column}[{place}]" for place in range(len(turns))]
    messages = [read(turn, field) for turn, field in zip(turns, fields, strict=True)]
    check_order(messages, fields, column)
    return messages


def _from_prompt_completion(values: dict[str, Any]) -> list[Message]:
    prompt, completion = values["prompt"], values["completion"]
    if isinstance(prompt, list) or isinstance(completion, list):
        return _two_lists(prompt, completion, values)
    user = {"role": "user", "content": text_of(prompt, "prompt")}
    answer = {"role": "assistant", "content": text_of(completion, "completion")}
    return [*_leading_system(values), user, answer]


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
    return messages if messages[0]["role"] == "system" else [*_leading_system(values), *messages]


def _from_alpaca(values: dict[str, Any]) -> list[Message]:
    parts = [text_of(values["instruction"], "instruction"), optional_text(values.get("input"), "input")]
    user = {"role": "user", "content": "\n\n".join(part for part in parts if part)}
    return [*_leading_system(values), user, {"role": "assistant", "content": text_of(values["output"], "output")}]


def _from_sharegpt(values: dict[str, Any]) -> list[Message]:
    messages = _conversation(values["conversations"], "conversations", read_turn)
    return messages if messages[0]["role"] == "system" else [*_leading_system(values), *messages]


def _leading_system(values: dict[str, Any]) -> list[Message]:
    """The system message out of the column `system`, where there is one."""
    text = optional_text(values.get("system"), "system")
    return [{"role": "system", "content": text}] if text else []


def _read_label(value: Any) -> bool:
    """Whether an answer is good: a boolean, 1 or 0, or the words that CSV files have for them."""
    if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in (*GOOD, *BAD):
        return value.strip().lower() in GOOD
    raise RowError("label", f"is {describe(value)}", "write true for a good answer, false for a bad one")


def _read_pair(values: dict[str, Any]) -> Example:
    """A preference row: `prompt` with `chosen` and `rejected` answers, or both as whole conversations that share all
    but their last message."""
    chosen, rejected = _side(values, "chosen"), _side(values, "rejected")
    if "prompt" in values and values["prompt"] is not None:
        prompt = _prompt(values)
        chosen, rejected = [_answer(side, prompt, name) for side, name in ((chosen, "chosen"), (rejected, "rejected"))]
    else:
        prompt, chosen = chosen[:-1], chosen[-1:]
        if rejected[:-1] != prompt:
            raise RowError("rejected", "has another prompt than chosen", "let only their last messages differ")
        rejected = rejected[-1:]
    if not prompt:
        raise RowError(
            "prompt", "is missing", "add a column prompt, or write whole conversations in chosen and rejected"
        )
    if chosen == rejected:
        raise RowError("rejected", "says the same as chosen", "remove the row: there is nothing to prefer")
    for side, name in ((chosen, "chosen"), (rejected, "rejected")):
        whole = [*prompt, *side]
        check_order(whole, [f"prompt[{place}]" for place in range(len(prompt))] + [name], name)
    prompt = [message | {"weight": 0} if message["role"] == "assistant" else message for message in prompt]
    return Example(
        messages=(*prompt, *chosen), rejected=tuple(rejected), tools=read_tools(values.get("tools"), "tools")
    )


def _side(values: dict[str, Any], name: str) -> list[Message]:
    value = values[name]
    if not isinstance(value, list):
        return [{"role": "assistant", "content": text_of(value, name)}]
    return [read_message(turn, f"{name}[{place}]") for place, turn in enumerate(list_of(value, name))]


def _prompt(values: dict[str, Any]) -> list[Message]:
    prompt = values["prompt"]
    if not isinstance(prompt, list):
        return [*_leading_system(values), {"role": "user", "content": text_of(prompt, "prompt")}]
    messages = [read_message(turn, f"prompt[{place}]") for place, turn in enumerate(list_of(prompt, "prompt"))]
    return messages if messages[0]["role"] == "system" else [*_leading_system(values), *messages]


def _answer(side: list[Message], prompt: list[Message], name: str) -> list[Message]:
    """The answer of a side, which may repeat the prompt before it."""
    answer = side[len(prompt) :] if side[: len(prompt)] == prompt else side
    if len(answer) > 1 and [message["role"] for message in answer[:-1]] == [m["role"] for m in prompt]:
        raise RowError(name, "begins with another prompt than the column prompt has", "make the two the same")
    if len(answer) != 1 or answer[0]["role"] != "assistant":
        roles = ", ".join(message["role"] for message in answer) or "nothing"
        raise RowError(name, f"is {roles}", "write one assistant message: the answer to the prompt")
    return answer


_READERS = {
    "messages": _from_messages,
    "prompt_completion": _from_prompt_completion,
    "alpaca": _from_alpaca,
    "sharegpt": _from_sharegpt,
    "labelled": _from_prompt_completion,
}
