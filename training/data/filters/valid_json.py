"""Drops answers that are not strict JSON, or lack a key."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from runspec.filters import ValidJsonFilter
from training.data.example import Example


def build(spec: ValidJsonFilter) -> Callable[[Example], str]:
    """What is wrong with the last answer as JSON; empty where nothing is."""

    def judge(example: Example) -> str:
        answer = example.reference
        try:
            value: Any = json.loads(answer, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            return f"the answer is not JSON ({error}): {answer[:40]!r}"
        if not spec.keys:
            return ""
        if not isinstance(value, dict):
            return f"the answer is JSON but no object: {answer[:40]!r}"
        missing = [key for key in spec.keys if key not in value]
        return f"the answer lacks the key {missing[0]!r}: {answer[:40]!r}" if missing else ""

    return judge


def _refuse(constant: str) -> Any:
    """Python reads NaN and Infinity, which JSON has not."""
    raise ValueError(f"{constant} is no JSON")
