"""Preference rows and labelled rows: read, and refused with the field and the fix."""

from __future__ import annotations

from typing import Any

import pytest

from runspec.data import CONVERSATIONS, PAIRS, VERDICTS
from runspec.errors import DataError
from training.data.example import Example
from training.data.files import Row
from training.data.layouts import choose_layout, read_row
from training.data.values import RowError

USER = {"role": "user", "content": "on or off?"}
ON = {"role": "assistant", "content": "on"}
OFF = {"role": "assistant", "content": "off"}
PAIR = {"prompt": "on or off?", "chosen": "on", "rejected": "off"}


def preference(**values: Any) -> Example:
    return read_row(Row("pairs.jsonl:1", values), "preference")


def test_text_and_messages_say_the_same() -> None:
    expected = Example((USER, ON), rejected=(OFF,), origin="pairs.jsonl:1")
    assert preference(**PAIR) == expected
    assert preference(prompt=[USER], chosen=[ON], rejected=[OFF]) == expected
    assert preference(chosen=[USER, ON], rejected=[USER, OFF]) == expected
    assert preference(prompt=[USER], chosen=[USER, ON], rejected=[USER, OFF]) == expected


def test_the_prompt_is_context_and_the_chosen_answer_the_reference() -> None:
    found = preference(prompt=[USER, OFF, USER], chosen="on", rejected="off")
    assert found.prompt == (USER, OFF | {"weight": 0}, USER)
    assert found.reference == "on"
    assert found.completion == (ON,)


def test_an_example_with_a_judgement_survives_json() -> None:
    for found in (preference(**PAIR), labelled(True)):
        assert Example.from_json(found.to_json()) == found
    assert preference(**PAIR).digest != preference(**PAIR | {"rejected": "out"}).digest
    assert labelled(True).digest != labelled(False).digest


BAD_PAIRS: dict[str, tuple[dict[str, Any], str, str]] = {
    "same answers": (PAIR | {"rejected": "on"}, "rejected", "nothing to prefer"),
    "no prompt": ({"chosen": "on", "rejected": "off"}, "prompt", "add a column prompt"),
    "two prompts": (
        {"chosen": [USER, ON], "rejected": [{"role": "user", "content": "else?"}, OFF]},
        "rejected",
        "let only their last messages differ",
    ),
    "another prompt inside": (
        {"prompt": "on or off?", "chosen": [{"role": "user", "content": "else?"}, ON], "rejected": "off"},
        "chosen",
        "make the two the same",
    ),
    "two answers": (PAIR | {"chosen": [ON, USER, ON]}, "chosen", "one assistant message"),
    "answer of the user": (PAIR | {"rejected": [USER]}, "rejected", "one assistant message"),
    "empty answer": (PAIR | {"chosen": ""}, "chosen", ""),
    "number": (PAIR | {"rejected": 3}, "rejected", ""),
    "null": (PAIR | {"rejected": None}, "rejected", ""),
}


@pytest.mark.parametrize("name", BAD_PAIRS)
def test_a_bad_pair_names_field_and_fix(name: str) -> None:
    values, field, fix = BAD_PAIRS[name]
    with pytest.raises(RowError) as caught:
        preference(**values)
    assert field in str(caught.value)
    assert fix in str(caught.value)


def labelled(label: Any) -> Example:
    return read_row(Row("rows.csv:2", {"prompt": "on or off?", "completion": "on", "label": label}), "labelled")


@pytest.mark.parametrize(
    ("label", "good"), [(True, True), (0, False), ("true", True), ("FALSE", False), ("1", True), ("bad", False)]
)
def test_a_label_is_a_boolean_or_what_csv_has_for_one(label: Any, good: bool) -> None:
    assert labelled(label).label is good
    assert labelled(label).is_good is good


@pytest.mark.parametrize("label", [None, "", "maybe", 2, 0.5, ["true"]])
def test_another_label_is_refused(label: Any) -> None:
    with pytest.raises(RowError, match="write true for a good answer"):
        labelled(label)


def test_auto_looks_only_for_layouts_that_the_method_can_use() -> None:
    rows = [Row("x", {"prompt": "a", "completion": "b", "label": True})]
    assert choose_layout("auto", rows, "x", VERDICTS) == "labelled"
    assert choose_layout("auto", rows, "x", CONVERSATIONS) == "prompt_completion"
    with pytest.raises(DataError, match="is not in layout preference") as caught:
        choose_layout("auto", rows, "x", PAIRS)
    assert "preference needs chosen, rejected" in str(caught.value)
