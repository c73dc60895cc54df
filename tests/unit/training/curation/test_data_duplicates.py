"""Copies and near-duplicates: what is found, what stays, and that neither order nor chance plays a part."""

from __future__ import annotations

import random

import pytest

from runspec.curation import NearDuplicates
from training.curation.duplicates import exact_copies, near_duplicates
from training.curation.similarity import Shape, jaccard, normalise, shingles
from training.data.example import Example

WORDS = [f"word{place}" for place in range(5000)]
SHAPE = Shape("words", 3)


def chat(prompt: str, answer: str, **more: object) -> Example:
    messages = ({"role": "user", "content": prompt}, {"role": "assistant", "content": answer})
    return Example(messages=messages, **more)  # type: ignore[arg-type]


def similarity(left: Example, right: Example, shape: Shape = SHAPE) -> float:
    return jaccard(*(shingles(normalise(each.row_text), shape) for each in (left, right)))


def noisy(count: int, seed: int = 0) -> list[Example]:
    """Texts, a third of them copies in which up to four words of sixty were changed."""
    chance = random.Random(seed)
    texts = [chance.choices(WORDS, k=60) for _ in range(count - count // 3)]
    for original in chance.choices(texts, k=count // 3):
        copy = list(original)
        for _ in range(chance.randint(0, 4)):
            copy[chance.randrange(60)] = chance.choice(WORDS)
        texts.append(copy)
    chance.shuffle(texts)
    return [Example(text=" ".join(text), origin=f"row {place}") for place, text in enumerate(texts)]


def test_planted_near_duplicates_are_found_and_nothing_else() -> None:
    examples = noisy(450)
    dropped = near_duplicates(examples, NearDuplicates()).dropped
    assert dropped
    for twin in dropped:  # precision: each is really as similar as it is told to be
        assert twin.similarity == similarity(examples[twin.place], examples[twin.kept]) >= 0.8
    gone = {twin.place for twin in dropped}
    assert not gone & {twin.kept for twin in dropped}
    stay = [example for place, example in enumerate(examples) if place not in gone]
    sets = [shingles(normalise(example.row_text), SHAPE) for example in stay]
    assert not any(jaccard(one, other) >= 0.8 for place, one in enumerate(sets) for other in sets[:place])  # recall


@pytest.mark.parametrize(("unit", "size"), [("words", 1), ("words", 5), ("characters", 5)])
def test_every_shape_of_shingle_works(unit: str, size: int) -> None:
    examples = noisy(90)
    spec = NearDuplicates.model_validate({"unit": unit, "size": size, "threshold": 0.7})
    dropped = near_duplicates(examples, spec).dropped
    assert len(dropped) >= 10
    shape = Shape(spec.unit, size)
    assert all(similarity(examples[twin.place], examples[twin.kept], shape) >= 0.7 for twin in dropped)


def test_the_same_rows_stay_in_every_order() -> None:
    examples = noisy(300)

    def staying(rows: list[Example]) -> set[str]:
        gone = {twin.place for twin in near_duplicates(rows, NearDuplicates()).dropped}
        return {example.digest for place, example in enumerate(rows) if place not in gone}

    shuffled = random.Random(5).sample(examples, len(examples))
    assert staying(examples) == staying(shuffled) == staying(examples[::-1])


def test_the_longest_stays() -> None:
    long = " ".join(WORDS[:100])
    rows = [Example(text=long[:-40]), Example(text=long), Example(text=long[:-80])]
    assert {(twin.place, twin.kept) for twin in near_duplicates(rows, NearDuplicates()).dropped} == {(0, 1), (2, 1)}


def test_case_spaces_and_unicode_forms_are_no_difference() -> None:
    rows = [chat("What  is THE time?", "ﬁve o'clock"), chat("what is the time", "FIVE o'clock")]
    assert len(near_duplicates(rows, NearDuplicates()).dropped) == 1
    assert exact_copies(rows) == []


def test_rows_with_different_verdicts_both_stay_but_belong_together() -> None:
    text = " ".join(WORDS[:50])
    rows = [chat(text, "yes", label=True), chat(text, "yes", label=False), chat(text, "yes", label=False)]
    found = near_duplicates(rows, NearDuplicates())
    assert len(found.dropped) == 1
    assert rows[found.dropped[0].place].label is False
    assert len(found.links) == 1


def test_the_rejected_answer_is_part_of_what_a_row_says() -> None:
    def pair(rejected: str) -> Example:
        return chat("How are you?", "Well", rejected=({"role": "assistant", "content": rejected},))

    one, other = pair(" ".join(WORDS[:30])), pair(" ".join(WORDS[30:60]))
    assert near_duplicates([one, other], NearDuplicates()).dropped == []


def test_kept_rows_are_tied_together_instead_of_dropped() -> None:
    examples = noisy(300)
    dropped = near_duplicates(examples, NearDuplicates()).dropped
    found = near_duplicates(examples, NearDuplicates(drop=False))
    assert found.dropped == []
    tied = {place for link in found.links for place in link}
    assert {twin.place for twin in dropped} <= tied
    assert all(similarity(examples[left], examples[right]) >= 0.8 for left, right in found.links)


def test_of_exact_copies_the_one_of_the_smallest_group_stays() -> None:
    rows = [chat("a", "b", group="z"), chat("a", "b", group="c"), chat("a", "b", group="c"), chat("a", "x", group="z")]
    assert {(twin.place, twin.kept) for twin in exact_copies(rows)} == {(0, 1), (2, 1)}


def test_rows_that_are_all_alike_are_not_compared_each_with_each() -> None:
    text = " ".join(WORDS[:80])
    rows = [Example(text=f"{text} {place}") for place in range(5000)]
    assert len(near_duplicates(rows, NearDuplicates()).dropped) == 4999
    assert len(near_duplicates(rows, NearDuplicates(drop=False)).links) == 4999


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It costs $3.50, doesn't it?", ["it", "costs", "$", "3", "50", "doesn", "t", "it"]),
        ("x<=y + 2", ["x", "<", "=", "y", "+", "2"]),
        ("你好 world", ["你", "好", "world"]),
        ("ＡＢＣ", ["abc"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert shingles(normalise(text), Shape("words", 1)) == frozenset(words)


def test_short_and_empty_texts_have_one_shingle() -> None:
    assert shingles("two words", SHAPE) == {"two words"}
    assert shingles("...", SHAPE) == {"..."}
    assert shingles("", SHAPE) == {""}
    assert shingles("abc", Shape("characters", 5)) == {"abc"}
