"""Drops what is written in another script than the wanted ones."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

from runspec.filters import ScriptFilter
from training.data.example import Example
from training.data.wording import text_of_subject


def build(spec: ScriptFilter) -> Callable[[Example], str]:
    """How much of a row is in the wanted scripts; empty where it is enough.

    A letter's script is the first word of its Unicode name: LATIN SMALL LETTER A, CJK UNIFIED IDEOGRAPH-4E00.
    """

    def judge(example: Example) -> str:
        scripts = Counter(map(_script, filter(str.isalpha, text_of_subject(example, spec.of))))
        letters = scripts.total()
        share = sum(scripts[script] for script in spec.scripts) / max(1, letters)
        if not letters or share >= spec.min_share:
            return ""
        other = next(script for script, _ in scripts.most_common() if script not in spec.scripts)
        wanted = " or ".join(spec.scripts)
        return (
            f"{share:.0%} of the letters in the {spec.of} are {wanted}, fewer than {spec.min_share:.0%}: many {other}"
        )

    return judge


@lru_cache(maxsize=65_536)
def _script(letter: str) -> str:
    """The script of a letter, in small letters: `latin`."""
    return unicodedata.name(letter, "UNKNOWN").replace("FULLWIDTH ", "").partition(" ")[0].lower()
