"""Drops what says the same over and over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from runspec.filters import RepetitionFilter
from training.data.example import Example
from training.data.shingles import normalise, words_of
from training.data.wording import text_of_subject


def build(spec: RepetitionFilter) -> Callable[[Example], str]:
    """How much of a row is repetition; empty where it is not too much.

    The share of repeated runs and lines is one of the rules that Gopher's data was filtered by (Rae et al. 2021,
    Scaling Language Models, table A1).
    """

    def judge(example: Example) -> str:
        text = text_of_subject(example, spec.of)
        runs = _lines(text) if spec.unit == "lines" else _runs(words_of(normalise(text)), spec.size)
        if len(runs) < 2:
            return ""
        counts = Counter(runs)
        share = (len(runs) - len(counts)) / len(runs)
        if share <= spec.max_share:
            return ""
        most, times = counts.most_common(1)[0]
        noun = "lines" if spec.unit == "lines" else f"runs of {spec.size} words"
        return (
            f"{share:.0%} of the {noun} in the {spec.of} are repeats, more than {spec.max_share:.0%}: "
            f"{most[:40]!r} stands there {times} times"
        )

    return judge


def _runs(words: list[str], size: int) -> list[str]:
    return [" ".join(words[start : start + size]) for start in range(len(words) - size + 1)]


def _lines(text: str) -> list[str]:
    return [line for line in map(normalise, text.splitlines()) if line]
