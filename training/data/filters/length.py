"""Drops what is too short or too long."""

from __future__ import annotations

from collections.abc import Callable

from runspec.filters import LengthFilter
from training.data.example import Example
from training.data.shingles import normalise, words_of
from training.data.wording import text_of_subject


def build(spec: LengthFilter) -> Callable[[Example], str]:
    """What is wrong with a row's length; empty where nothing is."""

    def judge(example: Example) -> str:
        text = text_of_subject(example, spec.of)
        count = len(words_of(normalise(text))) if spec.unit == "words" else len(text)
        if spec.min is not None and count < spec.min:
            return f"the {spec.of} has {count} {noun(count)}, fewer than {spec.min}: {text[:40]!r}"
        if spec.max is not None and count > spec.max:
            return f"the {spec.of} has {count:,} {noun(count)}, more than {spec.max:,}"
        return ""

    def noun(count: int) -> str:
        return spec.unit.removesuffix("s") if count == 1 else spec.unit

    return judge
