"""Drops, or keeps only, what a regular expression finds."""

from __future__ import annotations

import re
from collections.abc import Callable

from runspec.filters import PatternFilter
from training.data.example import Example
from training.data.wording import text_of_subject


def build(spec: PatternFilter) -> Callable[[Example], str]:
    """What was found, or that nothing was, where that is a reason to drop the row."""
    pattern = re.compile(spec.pattern)

    def judge(example: Example) -> str:
        text = text_of_subject(example, spec.of)
        found = pattern.search(text)
        if spec.drop == "found":
            return "" if found is None else f"the {spec.of} has {found[0][:40]!r}, which {spec.pattern!r} finds"
        return "" if found else f"the {spec.of} has nothing that {spec.pattern!r} finds: {text[:40]!r}"

    return judge
