"""Layouts: told from the columns, each row turned into a conversation, each bad value named with its fix."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runspec.data import Layout
from runspec.errors import DataError
from training.data.example import Example
from training.data.files import Row
from training.data.layouts import choose_layout, read_row
from training.data.values import RowError

USER = {"role": "user", "content": "2+2?"}
ANSWER = {"role": "assistant", "content": "4"}
SYSTEM = {"role": "system", "content": "Be brief."}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 2}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


def example(layout: Layout, **values: Any) -> Example:
    return read_row(Row("here", values), layout)


GOOD: dict[str, tuple[Layout, dict[str, Any], list[dict[str, Any]]]] = {
    "messages": ("messages", {"messages": [SYSTEM, USER, ANSWER]}, [SYSTEM, USER, ANSWER]),
    "messages as JSON text": ("messages", {"messages": json.dumps([USER, ANSWER])}, [USER, ANSWER]),
    "texts": ("prompt_completion", {"prompt": "2+2?", "completion": "4"}, [USER, ANSWER]),
    "text with system": (
        "prompt_completion",
        {"prompt": "2+2?", "completion": "4", "system": "Be brief."},
        [SYSTEM, USER, ANSWER],
    ),
    "lists": (
        "prompt_completion",
        {"prompt": [USER, ANSWER, USER], "completion": [ANSWER]},
        [USER, ANSWER | {"weight": 0}, USER, ANSWER],
    ),
    "alpaca": ("alpaca", {"instruction": "2+2?", "input": "", "output": "4"}, [USER, ANSWER]),
    "alpaca without input": ("alpaca", {"instruction": "2+2?", "input": None, "output": "4"}, [USER, ANSWER]),
    "alpaca with input": (
        "alpaca",
        {"instruction": "Add.", "input": "2 2", "output": "4"},
        [{"role": "user", "content": "Add.\n\n2 2"}, ANSWER],
    ),
    "sharegpt": (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}], "system": "Be brief."},
        [SYSTEM, USER, ANSWER],
    ),
    "sharegpt with a call": (
        "sharegpt",
        {
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "user", "value": "2+2?"},
                {"from": "function_call", "value": json.dumps(CALL["function"])},
                {"from": "observation", "value": "4"},
                {"from": "assistant", "value": "4"},
            ]
        },
        [
            SYSTEM,
            USER,
            {"role": "assistant", "tool_calls": [CALL], "content": ""},
            {"role": "tool", "content": "4"},
            ANSWER,
        ],
    ),
    "arguments as JSON text": (
        "messages",
        {
            "messages": [
                USER,
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "1", "function": {"name": "add", "arguments": '{"a": 2, "b": 2}'}}],
                },
            ]
        },
        [USER, {"role": "assistant", "tool_calls": [CALL | {"id": "1"}], "content": ""}],
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_every_layout_becomes_the_same_messages(name: str) -> None:
    layout, values, messages = GOOD[name]
    assert example(layout, **values).messages == tuple(messages)
    assert choose_layout("auto", [Row("here", values)], "data") == layout


def test_tools_are_brought_to_one_form() -> None:
    for tools in ([TOOL], [TOOL["function"]], json.dumps([TOOL["function"]]), [json.dumps(TOOL)]):
        assert example("messages", messages=[USER, ANSWER], tools=tools).tools == (TOOL,)
    for nothing in (None, [], "", " "):
        assert example("messages", messages=[USER, ANSWER], tools=nothing).tools is None


def test_prompt_and_reference_are_split_at_the_last_answer() -> None:
    found = example("messages", messages=[SYSTEM, USER, ANSWER, USER, {"role": "assistant", "content": "four"}])
    assert found.prompt == (SYSTEM, USER, ANSWER, USER)
    assert found.reference == "four"


def test_an_example_survives_json_and_its_digest_ignores_origin_and_group() -> None:
    found = example("messages", messages=[USER, ANSWER], tools=[TOOL])
    again = Example.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found
    moved = Example(found.messages, None, found.tools, group="group", origin="elsewhere")
    assert moved.digest == found.digest != example("messages", messages=[USER, ANSWER]).digest
    text = example("text", text="plain")
    assert Example.from_json(text.to_json()) == text
    assert (text.prompt, text.reference) == ((), "plain")


def messages(*values: Any, **more: Any) -> tuple[Layout, dict[str, Any]]:
    return "messages", {"messages": list(values), **more}


def sharegpt(*values: Any) -> tuple[Layout, dict[str, Any]]:
    return "sharegpt", {"conversations": list(values)}


def calls(value: Any) -> tuple[Layout, dict[str, Any]]:
    return messages(USER, {"role": "assistant", "tool_calls": value})


NAN = float("nan")
HUMAN = {"from": "human", "value": "hi"}
BAD: dict[str, tuple[tuple[Layout, dict[str, Any]], list[str]]] = {
    "column missing": (("alpaca", {"instruction": "a"}), ["output is missing", "columns: instruction"]),
    "null": (("prompt_completion", {"prompt": "a", "completion": None}), ["completion is null"]),
    "NaN": (("prompt_completion", {"prompt": NAN, "completion": "b"}), ["prompt is NaN"]),
    "number": (("prompt_completion", {"prompt": "a", "completion": 4}), ["completion is a number (4)"]),
    "object": (("prompt_completion", {"prompt": "a", "completion": {"x": 1}}), ["an object", "as JSON text"]),
    "blank": (("prompt_completion", {"prompt": " \n", "completion": "b"}), ["prompt is empty"]),
    "half lists": (("prompt_completion", {"prompt": [USER], "completion": "b"}), ["completion", "both as lists"]),
    "completion by user": (("prompt_completion", {"prompt": [USER], "completion": [USER]}), ["completion[0].role"]),
    "empty text": (("text", {"text": ""}), ["text is empty"]),
    "half a character": (("text", {"text": "a\ud800"}), ["lone surrogate", "position 1"]),
    "system a number": (("alpaca", {"instruction": "a", "output": "b", "system": 3}), ["system is a number"]),
    "messages not a list": (("messages", {"messages": {"role": "user"}}), ["messages is an object"]),
    "messages not JSON": (("messages", {"messages": "user: hi"}), ["messages is text that is not JSON"]),
    "no messages": (messages(), ["messages is an empty list"]),
    "message not an object": (messages("hi"), ["messages[0] is text ('hi')"]),
    "no role": (messages({"content": "a"}), ["messages[0] has no role, only content"]),
    "sharegpt turns": (messages(HUMAN), ["has no role", "layout sharegpt"]),
    "unknown role": (messages({"role": "human", "content": "a"}), ["messages[0].role is 'human'", "write 'user'"]),
    "misspelt role": (messages(USER, {"role": "asistant", "content": "a"}), ["messages[1].role", "write 'assistant'"]),
    "role null": (messages({"role": None, "content": "a"}), ["role is null", "system, user, assistant, tool"]),
    "content missing": (messages({"role": "user"}), ["messages[0].content is missing"]),
    "content null": (messages(USER, {"role": "assistant", "content": None}), ["messages[1].content is null"]),
    "content in parts": (messages({"role": "user", "content": [{"type": "text"}]}), ["content is an array"]),
    "empty answer": (messages(USER, {"role": "assistant", "content": ""}), ["messages[1].content is empty"]),
    "no answer": (messages(USER), ["messages has no assistant message"]),
    "last not the assistant": (messages(USER, ANSWER, USER), ["messages[2] is the last message and is of 'user'"]),
    "system not first": (messages(USER, ANSWER, SYSTEM, ANSWER), ["messages[2] is of 'system' but not first"]),
    "two systems": (messages(SYSTEM, SYSTEM, USER, ANSWER), ["messages[1] is of 'system'", "one only"]),
    "user twice": (messages(USER, USER, ANSWER), ["messages[1] follows another message of 'user'", "join"]),
    "assistant twice": (messages(USER, ANSWER, ANSWER), ["messages[2] follows another", "join"]),
    "assistant first": (messages(SYSTEM, ANSWER), ["messages[1]", "start with a user message"]),
    "tool after user": (messages(USER, {"role": "tool", "content": "4"}, ANSWER), ["messages[1] is of 'tool'"]),
    "nothing weighed": (messages(USER, ANSWER | {"weight": 0}), ["weight 0 in every assistant message"]),
    "weight": (messages(USER, ANSWER | {"weight": 0.5}), ["messages[1].weight is a number (0.5)"]),
    "weight of the user": (messages(USER | {"weight": 1}, ANSWER), ["messages[0].weight"]),
    "call by the user": (messages(USER | {"tool_calls": [CALL]}), ["messages[0].tool_calls", "only the assistant"]),
    "calls not a list": (calls(CALL), ["messages[1].tool_calls is an object"]),
    "call without name": (calls([{"function": {"arguments": {}}}]), ["tool_calls[0].name is null"]),
    "call not an object": (calls([3]), ["tool_calls[0] is a number (3)"]),
    "call of a kind": (calls([CALL | {"type": "search"}]), ["tool_calls[0].type is 'search'"]),
    "arguments not JSON": (calls([{"name": "f", "arguments": "{a"}]), ["tool_calls[0].arguments is text"]),
    "arguments a list": (calls([{"name": "f", "arguments": [1]}]), ["arguments is an array"]),
    "arguments NaN": (calls([{"name": "f", "arguments": {"a": NAN}}]), ["holds what JSON cannot"]),
    "tools a number": (messages(USER, ANSWER, tools=3), ["tools is a number"]),
    "tools not JSON": (messages(USER, ANSWER, tools="add()"), ["tools is text that is not JSON"]),
    "tool without name": (messages(USER, ANSWER, tools=[{"description": "x"}]), ["tools[0].name is null"]),
    "parameters": (messages(USER, ANSWER, tools=[{"name": "f", "parameters": []}]), ["tools[0].parameters"]),
    "from missing": (sharegpt(USER), ["conversations[0] has no 'from'", "layout messages"]),
    "from unknown": (sharegpt({"from": "GPT", "value": "a"}), ["conversations[0].from is 'GPT'", "write 'gpt'"]),
    "value missing": (sharegpt({"from": "human"}), ["conversations[0].value is missing"]),
    "value empty": (sharegpt(HUMAN, {"from": "gpt", "value": ""}), ["conversations[1].value is empty"]),
    "call not JSON": (sharegpt(HUMAN, {"from": "function_call", "value": "f()"}), ["conversations[1].value is text"]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_names_field_and_fix(name: str) -> None:
    (layout, values), expected = BAD[name]
    with pytest.raises(RowError) as caught:
        example(layout, **values)
    for text in expected:
        assert text in str(caught.value)
    assert "; " in str(caught.value)


def columns(*names: str) -> list[Row]:
    return [Row(f"row {place}", dict.fromkeys(names, "x")) for place in range(3)]


def test_columns_that_fit_no_layout_are_listed_with_what_is_needed() -> None:
    with pytest.raises(DataError) as caught:
        choose_layout("auto", columns("Instruction", "Output", "id"), "data.csv")
    assert "Columns found: Instruction, Output, id" in caught.value.what
    assert "alpaca needs instruction, output" in caught.value.what
    assert (
        "Rename the column 'Instruction' to 'instruction'. Rename the column 'Output' to 'output'." in caught.value.fix
    )


def test_several_fitting_layouts_are_for_the_user_to_choose_from() -> None:
    rows = columns("instruction", "output", "text")
    with pytest.raises(DataError, match="several layouts: alpaca, text"):
        choose_layout("auto", rows, "data.csv")
    assert choose_layout("text", rows, "data.csv") == "text"


def test_a_named_layout_whose_columns_are_not_there_is_refused_at_once() -> None:
    with pytest.raises(DataError, match="no 'completion', which layout prompt_completion needs") as caught:
        choose_layout("prompt_completion", columns("prompt", "completions"), "data.csv")
    assert "Rename the column 'completions' to 'completion'" in caught.value.fix


def test_one_odd_row_does_not_hide_the_layout() -> None:
    assert choose_layout("auto", [Row("a", {"other": 1}), *columns("messages")], "data") == "messages"


def test_groups_are_text_or_whole_numbers() -> None:
    values = {"text": "a", "topic": 7}
    assert read_row(Row("a", values), "text", "topic").group == "7"
    for value in (None, NAN, "", [1], 0.5):
        with pytest.raises(RowError, match=r"topic .*group_key"):
            read_row(Row("a", values | {"topic": value}), "text", "topic")
