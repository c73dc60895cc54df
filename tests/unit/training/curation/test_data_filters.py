"""Quality filters: what each drops and keeps, and that every reason quotes what was found and the limit."""

from __future__ import annotations

import typing
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from runspec.filters import QualityFilter
from runspec.tree import kind_of, models
from training.curation.filters import FILTERS, keep_good
from training.curation.funnel import Funnel
from training.data.example import Example

SPECS: TypeAdapter[QualityFilter] = TypeAdapter(QualityFilter)


def chat(answer: str, prompt: str = "What is it?", **more: Any) -> Example:
    messages = ({"role": "user", "content": prompt}, {"role": "assistant", "content": answer})
    return Example(messages=messages, origin=f"row {answer[:10]}", **more)


def reason(spec: dict[str, Any], example: Example) -> str:
    return FILTERS[spec["kind"]](example, SPECS.validate_python(spec))


LOOP = "I love you so much. " * 8
CODE = "Try this:\n```python\nprint(1)\n"

DROPPED: list[tuple[dict[str, Any], Example, list[str]]] = [
    ({"kind": "length", "min": 3}, chat("Yes, indeed."), ["answer has 2 words", "fewer than 3", "'Yes, indeed.'"]),
    ({"kind": "length", "max": 3}, chat("one two three four"), ["4 words", "more than 3"]),
    ({"kind": "length", "of": "prompt", "min": 2}, chat("a", "Robots"), ["prompt has 1 word,", "'Robots'"]),
    ({"kind": "length", "unit": "characters", "max": 5}, chat("sixsix"), ["6 characters", "more than 5"]),
    ({"kind": "length", "of": "row", "max": 2}, Example(text="a b c"), ["3 words"]),
    ({"kind": "length", "min": 5}, chat("你好"), ["2 words"]),
    ({"kind": "repetition"}, chat(LOOP), ["of the runs of 4 words", "more than 30%", "occurs 8 times"]),
    ({"kind": "repetition", "unit": "lines", "max_share": 0.4}, chat("a\na\nb\n\nA"), ["50% of the lines", "'a'"]),
    ({"kind": "symbols"}, chat("!!! ??? *** ok"), ["82% of the answer are symbols", "more than 30%"]),
    ({"kind": "script"}, chat("Привет, как дела?"), ["of the letters in the row are latin", "90%", "cyrillic"]),
    ({"kind": "script", "scripts": ["cjk"], "of": "answer"}, chat("hello"), ["0% of the letters", "latin"]),
    ({"kind": "boilerplate"}, chat("As an AI  language model, I"), ["'as an ai language model'"]),
    ({"kind": "boilerplate"}, chat("I\u2019m sorry, but I can\u2019t do that."), ["\"i'm sorry, but i can't\""]),
    ({"kind": "boilerplate", "phrases": ["Foo Bar"]}, chat("so foo bar"), ["'Foo Bar'"]),
    ({"kind": "pattern", "pattern": r"https?://\S+"}, chat("see http://a.b/c"), ["'http://a.b/c'", "https?"]),
    ({"kind": "pattern", "pattern": r"\d", "drop": "missing"}, chat("none"), ["has nothing that", "'none'"]),
    ({"kind": "valid_json"}, chat("{'a': 1}"), ["is not JSON", "\"{'a': 1}\""]),
    ({"kind": "valid_json"}, chat('{"a": NaN}'), ["NaN is not JSON"]),
    ({"kind": "valid_json", "keys": ["a", "b"]}, chat('{"a": 1}'), ["lacks the key 'b'"]),
    ({"kind": "valid_json", "keys": ["a"]}, chat("[1]"), ["is JSON, but not an object"]),
    ({"kind": "echo"}, chat("what is IT"), ["repeats the prompt (similarity 1.00, 0.9 or more is dropped)"]),
    ({"kind": "unfinished"}, chat(CODE), ["leaves a code block open", "print(1)"]),
    ({"kind": "unfinished"}, chat("First, second and,"), ["ends in ','"]),
]

KEPT: list[tuple[dict[str, Any], Example]] = [
    ({"kind": "length", "min": 2, "max": 2}, chat("Yes, indeed.")),
    ({"kind": "length", "of": "prompt", "min": 3}, chat("a")),
    ({"kind": "length", "min": 2}, chat("", tools=None).__class__(text="two words")),
    ({"kind": "repetition"}, chat("The cat sat on the mat, and the dog sat on the rug.")),
    ({"kind": "repetition"}, chat("short")),
    ({"kind": "symbols"}, chat("It costs $3.50, doesn't it?")),
    ({"kind": "symbols"}, chat("हिन्दी में")),
    ({"kind": "script"}, chat("Ça va, Ève? ...")),
    ({"kind": "script"}, chat("123 + 4", "5?")),
    ({"kind": "script", "scripts": ["cjk", "hiragana", "katakana"], "of": "answer"}, chat("日本語のテスト")),
    ({"kind": "boilerplate"}, chat("An AI language is what you write models in.")),
    ({"kind": "pattern", "pattern": "x"}, chat("y")),
    ({"kind": "pattern", "pattern": "x", "drop": "missing"}, chat("x")),
    ({"kind": "valid_json", "keys": ["a"]}, chat('{"a": null}')),
    ({"kind": "valid_json"}, chat("3")),
    ({"kind": "echo"}, chat("It is a cat.")),
    ({"kind": "echo"}, Example(text="It is a cat.")),
    ({"kind": "unfinished"}, chat(f"{CODE}```\nDone.")),
]


@pytest.mark.parametrize(("spec", "example", "fragments"), DROPPED)
def test_dropped_with_what_was_found_and_the_limit(
    spec: dict[str, Any], example: Example, fragments: list[str]
) -> None:
    found = reason(spec, example)
    for fragment in fragments:
        assert fragment in found


@pytest.mark.parametrize(("spec", "example"), KEPT)
def test_kept(spec: dict[str, Any], example: Example) -> None:
    assert reason(spec, example) == ""


def test_every_kind_has_its_function_and_is_tested() -> None:
    kinds = {kind_of(model) for model in models(typing.cast(Any, QualityFilter))}
    assert set(FILTERS) == kinds
    for cases in (DROPPED, KEPT):
        assert {case[0]["kind"] for case in cases} == kinds


def test_filters_go_one_after_the_other_and_are_counted() -> None:
    rows = [chat("no"), chat("yes yes"), chat("{"), chat('{"a": 1}'), chat(LOOP)]
    specs = [{"kind": "length", "max": 20}, {"kind": "length", "min": 2}, {"kind": "valid_json"}]
    funnel = Funnel()
    funnel.count("read", len(rows))
    kept = keep_good(rows, [SPECS.validate_python(spec) for spec in specs], funnel)
    assert [example.reference for example in kept] == ['{"a": 1}']
    steps = [(step.stage, step.change, step.left) for step in funnel.steps[1:]]
    assert steps == [("filter length 1", -1, 4), ("filter length 2", -2, 2), ("filter valid_json", -1, 1)]
    assert [row.stage for row in funnel.dropped] == [name for name, change, _ in steps for _ in range(-change)]
    assert all(row.origin.startswith("row ") and row.reason for row in funnel.dropped)


def test_an_answer_labelled_bad_is_not_dropped_for_being_bad() -> None:
    bad, good = chat("No.", label=False), chat("No.", label=True)
    funnel = Funnel()
    assert keep_good([bad, good], [SPECS.validate_python({"kind": "length", "min": 2})], funnel) == [bad]
    asked_for = chat("No.", "one two three four five six seven eight nine", label=False)
    prompts = SPECS.validate_python({"kind": "length", "of": "prompt", "min": 9})
    assert keep_good([bad, good, asked_for], [prompts], funnel) == [asked_for]


def test_context_turns_are_not_judged_and_tool_calls_are() -> None:
    call = {"type": "function", "function": {"name": "light", "arguments": {"room": "hall"}}}
    messages = (
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "As an AI language model, hi", "weight": 0},
        {"role": "user", "content": "Light on"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    )
    example = Example(messages=messages)
    assert reason({"kind": "boilerplate"}, example) == ""
    assert reason({"kind": "length", "min": 3}, example) == ""


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "length"},
        {"kind": "length", "min": 5, "max": 3},
        {"kind": "length", "min": 0},
        {"kind": "pattern", "pattern": "("},
        {"kind": "pattern", "pattern": ""},
        {"kind": "script", "scripts": []},
        {"kind": "boilerplate", "phrases": []},
        {"kind": "repetition", "max_share": 1},
        {"kind": "perplexity"},
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SPECS.validate_python(spec)
