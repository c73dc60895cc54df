"""Drops what is mostly punctuation, markup or emoji."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable

from runspec.filters import SymbolsFilter
from training.data.example import Example
from training.data.wording import text_of_subject


def build(spec: SymbolsFilter) -> Callable[[Example], str]:
    """How much of a row is neither letter nor digit; empty where it is not too much."""

    def judge(example: Example) -> str:
        characters = [each for each in text_of_subject(example, spec.of) if not each.isspace()]
        symbols = Counter(each for each in characters if not each.isalnum() and not _belongs_to_a_letter(each))
        share = symbols.total() / max(1, len(characters))
        if share <= spec.max_share:
            return ""
        most = "".join(symbol for symbol, _ in symbols.most_common(5))
        return f"{share:.0%} of the {spec.of} are symbols, more than {spec.max_share:.0%}: mostly {most!r}"

    return judge


def _belongs_to_a_letter(character: str) -> bool:
    """Whether it is an accent or vowel sign, as many scripts write them."""
    return not character.isascii() and unicodedata.category(character).startswith("M")
