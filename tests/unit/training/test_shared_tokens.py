"""Tokenised rows out of the cache: made once, and again whenever anything that makes them is another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset

from runspec.run import RunSpec
from training.data.example import Example
from training.method import TokenizedRows
from training.shared_tokens import CachedMethod

ROWS = [Example(text="one"), Example(text="two")]


class Counting:
    """A method that counts how often it tokenises."""

    def __init__(self) -> None:
        self.calls = 0

    def tokenize_rows(self, examples: Sequence[Example], tokenizer: Any, spec: RunSpec) -> TokenizedRows:
        self.calls += 1
        dataset = Dataset.from_dict({"input_ids": [[1, 2], [3]], "labels": [[-100, 2], [3]]})
        return TokenizedRows(dataset, {"whole": len(examples)}, 3, 2)


def spec(**sections: Any) -> RunSpec:
    values = {
        "name": "a",
        "model": {"source": {"kind": "hub", "id": "x"}},
        "data": {"source": {"kind": "file", "path": "d"}},
    }
    return RunSpec.model_validate(values | sections)


def tokenizer(template: str = "{{ messages }}", vocabulary: str = "abc") -> Any:
    return SimpleNamespace(
        is_fast=True,
        backend_tokenizer=SimpleNamespace(to_str=lambda: vocabulary),
        chat_template=template,
        special_tokens_map={"eos_token": "</s>"},
    )


@pytest.fixture
def method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counting:
    monkeypatch.setenv("GUITARFISH_CACHE", str(tmp_path))
    return Counting()


def test_the_second_trial_reads_what_the_first_one_made(method: Counting) -> None:
    cached: Any = CachedMethod(method)  # type: ignore[arg-type]
    first = cached.tokenize_rows(ROWS, tokenizer(), spec())
    second = cached.tokenize_rows(ROWS, tokenizer(), spec(lora={"rank": 2}, training={"learning_rate": 1e-3}))
    assert method.calls == 1
    assert second.dataset.to_dict() == first.dataset.to_dict()
    assert (second.fates, second.tokens, second.supervised) == ({"whole": 2}, 3, 2)


@pytest.mark.parametrize(
    ("rows", "other", "sections"),
    [
        (ROWS[:1], tokenizer(), {}),
        (ROWS[::-1], tokenizer(), {}),
        (ROWS, tokenizer(template="{{ other }}"), {}),
        (ROWS, tokenizer(vocabulary="abd"), {}),
        (ROWS, tokenizer(), {"method": {"kind": "sft", "packing": "off"}}),
        (ROWS, tokenizer(), {"data": {"source": {"kind": "file", "path": "d"}, "max_length": 99}}),
        (ROWS, tokenizer(), {"data": {"source": {"kind": "file", "path": "d"}, "too_long": "drop"}}),
    ],
)
def test_whatever_makes_other_rows_is_made_again(
    method: Counting, rows: list[Example], other: Any, sections: dict[str, Any]
) -> None:
    cached: Any = CachedMethod(method)  # type: ignore[arg-type]
    cached.tokenize_rows(ROWS, tokenizer(), spec())
    cached.tokenize_rows(rows, other, spec(**sections))
    assert method.calls == 2
