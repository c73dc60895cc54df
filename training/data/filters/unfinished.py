"""Drops answers that were cut off."""

from __future__ import annotations

import re
from collections.abc import Callable

from runspec.filters import UnfinishedFilter
from training.data.example import Example

FENCE = re.compile(r"^\s*```", re.MULTILINE)
"""The line that opens or closes a code block in Markdown."""


def build(spec: UnfinishedFilter) -> Callable[[Example], str]:
    """Why the last answer seems to be cut off; empty where it does not."""

    def judge(example: Example) -> str:
        answer = example.reference.rstrip()
        if len(FENCE.findall(answer)) % 2:
            return f"the answer leaves a code block open: it ends in {answer[-30:]!r}"
        if answer and answer[-1] in spec.endings:
            return f"the answer ends in {answer[-1]!r}: {answer[-30:]!r}"
        return ""

    return judge
