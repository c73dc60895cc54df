"""The quality filters of a run file: one function each that says why a row is to be dropped; empty text keeps it.

A reason quotes what was found and the limit.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from runspec.errors import DataError
from runspec.filters import (
    BoilerplateFilter,
    EchoFilter,
    LengthFilter,
    PatternFilter,
    QualityFilter,
    RepetitionFilter,
    ScriptFilter,
    Subject,
    SymbolsFilter,
    UnfinishedFilter,
    ValidJsonFilter,
)
from training.curation.funnel import Funnel
from training.curation.similarity import Shape, jaccard, normalise, shingles, words_of
from training.data.example import Example

FENCE = re.compile(r"^\s*```", re.MULTILINE)
"""The line that opens or closes a code block in Markdown."""


def keep_good(examples: list[Example], specs: Sequence[QualityFilter], funnel: Funnel) -> list[Example]:
    """The rows that pass all filters, one filter after the other.

    Raises:
        DataError: no row passes.
    """
    before = len(examples)
    kinds = [spec.kind for spec in specs]
    for place, spec in enumerate(specs):
        numbered = f" {kinds[: place + 1].count(spec.kind)}" if kinds.count(spec.kind) > 1 else ""
        # An answer labelled bad is there to be learnt from as such: no filter of answers drops it.
        of_prompts = getattr(spec, "of", "answer") == "prompt"
        reasons = [FILTERS[spec.kind](example, spec) if example.is_good or of_prompts else "" for example in examples]
        judged = list(zip(examples, reasons, strict=True))
        funnel.drop(f"filter {spec.kind}{numbered}", [(example, reason) for example, reason in judged if reason])
        examples = [example for example, reason in judged if not reason]
    if before and not examples:
        by_stage = Counter(dropped.stage.removeprefix("filter ") for dropped in funnel.dropped)
        listed = ", ".join(f"{stage} {count:,}" for stage, count in by_stage.most_common())
        first = funnel.dropped[0]
        raise DataError(
            f"The quality filters drop all {before:,} rows ({listed}). The first is {first.origin}: {first.reason}.",
            where="data.curation.filters",
            fix="Loosen the filter that drops most of them, or remove it.",
        )
    return examples


def _text(example: Example, subject: Subject) -> str:
    match subject:
        case "prompt":
            return example.prompt_text
        case "answer":
            return example.answer_text
        case "row":
            return example.row_text


def length(example: Example, spec: LengthFilter) -> str:
    text = _text(example, spec.of)
    count = len(words_of(normalise(text))) if spec.unit == "words" else len(text)
    noun = spec.unit.removesuffix("s") if count == 1 else spec.unit
    if spec.min is not None and count < spec.min:
        return f"the {spec.of} has {count} {noun}, fewer than {spec.min}: {text[:40]!r}"
    if spec.max is not None and count > spec.max:
        return f"the {spec.of} has {count:,} {noun}, more than {spec.max:,}"
    return ""


def repetition(example: Example, spec: RepetitionFilter) -> str:
    """The share of repeated runs and lines, one of the rules that Gopher's data was filtered by (Rae et al. 2021,
    Scaling Language Models, table A1)."""
    text = _text(example, spec.of)
    if spec.unit == "lines":
        noun, runs = "lines", [line for line in map(normalise, text.splitlines()) if line]
    else:
        words = words_of(normalise(text))
        noun = f"runs of {spec.size} words"
        runs = [" ".join(words[start : start + spec.size]) for start in range(len(words) - spec.size + 1)]
    if len(runs) < 2:
        return ""
    counts = Counter(runs)
    share = (len(runs) - len(counts)) / len(runs)
    if share <= spec.max_share:
        return ""
    most, times = counts.most_common(1)[0]
    return (
        f"{share:.0%} of the {noun} in the {spec.of} are repeats, more than {spec.max_share:.0%}: "
        f"{most[:40]!r} occurs {times} times"
    )


def symbols(example: Example, spec: SymbolsFilter) -> str:
    characters = [each for each in _text(example, spec.of) if not each.isspace()]
    found = Counter(each for each in characters if not each.isalnum() and not _is_mark(each))
    share = found.total() / max(1, len(characters))
    if share <= spec.max_share:
        return ""
    most = "".join(symbol for symbol, _ in found.most_common(5))
    return f"{share:.0%} of the {spec.of} are symbols, more than {spec.max_share:.0%}: mostly {most!r}"


def _is_mark(character: str) -> bool:
    """Whether it is an accent or vowel sign, as many scripts write them."""
    return not character.isascii() and unicodedata.category(character).startswith("M")


def script(example: Example, spec: ScriptFilter) -> str:
    scripts = Counter(map(_script_of, filter(str.isalpha, _text(example, spec.of))))
    letters = scripts.total()
    share = sum(scripts[each] for each in spec.scripts) / max(1, letters)
    if not letters or share >= spec.min_share:
        return ""
    other = next(each for each, _ in scripts.most_common() if each not in spec.scripts)
    wanted = " or ".join(spec.scripts)
    return f"{share:.0%} of the letters in the {spec.of} are {wanted}, fewer than {spec.min_share:.0%}: many {other}"


@lru_cache(maxsize=65_536)
def _script_of(letter: str) -> str:
    """The first word of its Unicode name: LATIN SMALL LETTER A, CJK UNIFIED IDEOGRAPH-4E00."""
    return unicodedata.name(letter, "UNKNOWN").replace("FULLWIDTH ", "").partition(" ")[0].lower()


def boilerplate(example: Example, spec: BoilerplateFilter) -> str:
    text = _plain(_text(example, spec.of))
    found = next((phrase for phrase in spec.phrases if _plain(phrase) in text), None)
    return "" if found is None else f"the {spec.of} has the phrase {found!r}"


@lru_cache(maxsize=1024)
def _plain(text: str) -> str:
    """Curly apostrophes count as straight ones."""
    return normalise(text).replace("\u2019", "'")


def pattern(example: Example, spec: PatternFilter) -> str:
    text = _text(example, spec.of)
    found = re.search(spec.pattern, text)
    if spec.drop == "found":
        return "" if found is None else f"the {spec.of} has {found[0][:40]!r}, which {spec.pattern!r} finds"
    return "" if found else f"the {spec.of} has nothing that {spec.pattern!r} finds: {text[:40]!r}"


def valid_json(example: Example, spec: ValidJsonFilter) -> str:
    answer = example.reference
    try:
        value: Any = json.loads(answer, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        return f"the answer is not JSON ({error}): {answer[:40]!r}"
    if not spec.keys:
        return ""
    if not isinstance(value, dict):
        return f"the answer is JSON, but not an object: {answer[:40]!r}"
    missing = [key for key in spec.keys if key not in value]
    return f"the answer lacks the key {missing[0]!r}: {answer[:40]!r}" if missing else ""


def _refuse(constant: str) -> Any:
    """Python reads NaN and Infinity, which are not JSON."""
    raise ValueError(f"{constant} is not JSON")


def echo(example: Example, spec: EchoFilter) -> str:
    prompt, answer = normalise(example.prompt_text), normalise(example.answer_text)
    if not prompt or not answer:
        return ""
    words = Shape("words", 1)
    similarity = 1.0 if prompt == answer else jaccard(shingles(prompt, words), shingles(answer, words))
    if similarity < spec.max_similarity:
        return ""
    limit = f"{spec.max_similarity:g} or more"
    return f"the answer repeats the prompt (similarity {similarity:.2f}, {limit} is dropped): {answer[:40]!r}"


def unfinished(example: Example, spec: UnfinishedFilter) -> str:
    answer = example.reference.rstrip()
    if len(FENCE.findall(answer)) % 2:
        return f"the answer leaves a code block open: it ends in {answer[-30:]!r}"
    if answer and answer[-1] in spec.endings:
        return f"the answer ends in {answer[-1]!r}: {answer[-30:]!r}"
    return ""


FILTERS: dict[str, Callable[[Example, Any], str]] = {
    "length": length,
    "repetition": repetition,
    "symbols": symbols,
    "script": script,
    "boilerplate": boilerplate,
    "pattern": pattern,
    "valid_json": valid_json,
    "echo": echo,
    "unfinished": unfinished,
}
"""The function of each kind in `runspec/filters.py`."""
