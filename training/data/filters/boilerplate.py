"""Drops refusals and phrases that give away another model's answer."""

from __future__ import annotations

from collections.abc import Callable

from runspec.filters import BoilerplateFilter
from training.data.example import Example
from training.data.shingles import normalise
from training.data.wording import text_of_subject


def build(spec: BoilerplateFilter) -> Callable[[Example], str]:
    """The phrase that was found in a row; empty where there is none. Curly apostrophes count as straight ones."""
    phrases = {_plain(phrase): phrase for phrase in spec.phrases}

    def judge(example: Example) -> str:
        text = _plain(text_of_subject(example, spec.of))
        found = next((phrase for plain, phrase in phrases.items() if plain in text), None)
        return "" if found is None else f"the {spec.of} has the phrase {found!r}"

    return judge


def _plain(text: str) -> str:
    return normalise(text).replace("\u2019", "'")
