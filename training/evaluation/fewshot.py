"""The few-shot baseline: the untuned model with examples of the training data in its prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from training.data.example import Example


def pick_few_shot(train: Sequence[Example], count: int, *, seed: int = 0) -> list[Example]:
    """Draw training rows by hash, so that their order and the machine do not matter.

    Plain text, which has no question and answer, and replay rows are left out. Each answer is taken once before any
    is repeated: four examples of a label task are not four times the same label.
    """
    usable = [example for example in train if example.text is None and example.reference and not example.replay]
    drawn = sorted(usable, key=lambda example: hashlib.sha256(f"{seed}:{example.digest}".encode()).digest())
    seen: set[str] = set()
    first: list[Example] = []
    again: list[Example] = []
    for example in drawn:
        (again if example.reference in seen else first).append(example)
        seen.add(example.reference)
    return [*first, *again][:count]


def with_shots(prompt: Sequence[dict[str, Any]], shots: Sequence[Example]) -> list[dict[str, Any]]:
    """The prompt with the shots as earlier turns after its system message; theirs are left out."""
    system = [message for message in prompt[:1] if message["role"] == "system"]
    turns = [message for shot in shots for message in shot.messages if message["role"] != "system"]
    return [*system, *turns, *prompt[len(system) :]]
