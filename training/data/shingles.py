"""Texts as sets of shingles, and how similar two of them are."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer, kana and Chinese characters: written without spaces, so each counts as a word."""
WORDS = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+|[^\w\s.,;:!?'\"]")
"""A word, or a mark that means something: `+`, `<` and brackets do, the punctuation of prose does not."""


@dataclass(frozen=True)
class Shape:
    """What a shingle is: `size` neighbouring words or characters."""

    unit: Literal["words", "characters"]
    size: int


def normalise(text: str) -> str:
    """The text without differences that nobody would call one: Unicode's NFKC form, case and white space."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(text.lower().split())


def words_of(text: str) -> list[str]:
    """The words and meaningful marks of a normalised text."""
    return WORDS.findall(text)


def shingles(normalised: str, shape: Shape) -> frozenset[str]:
    """The set of all runs of `shape.size` words or characters.

    Args:
        normalised: what `normalise` gave.

    Returns:
        Never empty: a text shorter than one run is one shingle by itself.
    """
    if shape.unit == "characters":
        size = shape.size
        if len(normalised) <= size:
            return frozenset((normalised,))
        return frozenset([normalised[start : start + size] for start in range(len(normalised) - size + 1)])
    words = words_of(normalised)
    if len(words) < shape.size:
        return frozenset((" ".join(words) or normalised,))
    return frozenset(map(" ".join, zip(*(words[start:] for start in range(shape.size)), strict=False)))


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """Shared shingles by all shingles of both (Jaccard 1912): 1 for equal sets, 0 for sets that share none."""
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)
