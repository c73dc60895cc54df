"""Drops answers that only say the prompt again."""

from __future__ import annotations

from collections.abc import Callable

from runspec.filters import EchoFilter
from training.data.example import Example
from training.data.shingles import Shape, jaccard, normalise, shingles
from training.data.wording import answer_text, prompt_text

WORDS = Shape("words", 1)


def build(spec: EchoFilter) -> Callable[[Example], str]:
    """How similar an answer is to its prompt; empty where it is not too much. A plain text has no prompt."""

    def judge(example: Example) -> str:
        prompt, answer = normalise(prompt_text(example)), normalise(answer_text(example))
        if not prompt or not answer:
            return ""
        similarity = 1.0 if prompt == answer else jaccard(shingles(prompt, WORDS), shingles(answer, WORDS))
        if similarity < spec.max_similarity:
            return ""
        limit = f"{spec.max_similarity:g} or more"
        return f"the answer repeats the prompt (similarity {similarity:.2f}, {limit} is dropped): {answer[:40]!r}"

    return judge
