"""The leak certificate: it finds what comparing every pair finds, and says it plainly."""

from __future__ import annotations

import random

import pytest

from runspec.curation import ExactDuplicates, KeepDuplicates, NearDuplicates
from training.curation.certificate import LeakCertificate, certify
from training.curation.duplicates import near_duplicates, without_leaks
from training.curation.funnel import Dropped, Funnel
from training.curation.similarity import Shape, SimilarTexts, jaccard, normalise, shingles
from training.data.example import Example


def texts(count: int, seed: int, vocabulary: int = 12, words: int = 8) -> list[str]:
    """Short texts of few words: many pairs of every similarity."""
    chance = random.Random(seed)
    return [" ".join(chance.choices([f"w{place}" for place in range(vocabulary)], k=words)) for _ in range(count)]


@pytest.mark.parametrize("floor", [0.1, 0.4, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("shape", [Shape("words", 1), Shape("words", 2), Shape("characters", 4)])
def test_the_search_finds_what_comparing_every_pair_finds(floor: float, shape: Shape) -> None:
    held, others = [*texts(60, 1), *texts(20, 5, words=30)], [*texts(120, 2), *texts(40, 6, words=30)]
    index = SimilarTexts(held, shape, floor)
    found = {
        (place, other, similarity) for place, text in enumerate(others) for other, similarity in index.similar_to(text)
    }
    every = {
        (place, other, jaccard(shingles(text, shape), shingles(one, shape)))
        for place, text in enumerate(others)
        for other, one in enumerate(held)
    }
    assert found == {pair for pair in every if pair[2] >= floor}


def test_what_was_removed_is_found_no_more() -> None:
    held = texts(40, 1)
    index = SimilarTexts(held, Shape("words", 1), 0.3)
    for place in range(0, 40, 2):
        index.remove(place)
    found = {other for text in held for other, _ in index.similar_to(text)}
    assert found == set(range(1, 40, 2))


def rows(many: list[str], name: str) -> list[Example]:
    return [Example(text=text, origin=f"{name} {place}") for place, text in enumerate(many)]


def test_leaks_are_counted_and_the_first_are_named() -> None:
    train = rows([*texts(50, 3, vocabulary=500, words=30)], "train")
    leaked = [Example(text=f"{example.text} more", origin=f"held {place}") for place, example in enumerate(train[:4])]
    clean = rows(texts(10, 4, vocabulary=500, words=30), "clean")
    found = certify(train, leaked + clean, NearDuplicates())
    assert (found.near_duplicates, found.is_clean, found.holdout_rows) == (4, False, 14)
    assert {(pair.held_out, pair.trained) for pair in found.pairs} == {(f"held {n}", f"train {n}") for n in range(4)}
    assert all(0.8 <= pair.similarity < 1 for pair in found.pairs)
    assert "4 of 14 held-out rows have a near-duplicate among the training rows (Jaccard >= 0.8" in found.in_words()
    again = certify(train[::-1], (leaked + clean)[::-1], NearDuplicates())
    assert (again.train_digest, again.holdout_digest) == (found.train_digest, found.holdout_digest)
    assert LeakCertificate.model_validate_json(found.model_dump_json()) == found


def test_a_clean_split_tells_how_near_the_nearest_is() -> None:
    base = " ".join(f"w{place}" for place in range(40))
    train, held = [Example(text=base)], [Example(text=base.replace("w20", "x").replace("w30", "y"))]
    found = certify(train, held, NearDuplicates())
    exact = jaccard(*(shingles(normalise(each.row_text), Shape("words", 3)) for each in (*train, *held)))
    assert found.is_clean
    assert found.highest == pytest.approx(exact, abs=1e-4)
    assert "highest 0.72" in found.in_words()
    far = certify(train, [Example(text="something else")], NearDuplicates())
    assert far.highest is None
    assert "none reaches 0.60" in far.in_words()


def test_where_duplicates_are_kept_the_default_measure_counts() -> None:
    train = [Example(text=" ".join(f"w{place}" for place in range(40)))]
    for kind in (KeepDuplicates(), ExactDuplicates()):
        found = certify(train, train, kind)
        assert (found.near_duplicates, found.threshold, found.highest) == (1, 0.8, 1.0)


def test_prompts_and_groups_on_both_sides_are_counted() -> None:
    def chat(prompt: str, answer: str, group: str) -> Example:
        messages = ({"role": "user", "content": prompt}, {"role": "assistant", "content": answer})
        return Example(messages=messages, group=group)

    train = [chat("Who wrote Emma?", "Jane Austen did, in 1815.", "a"), chat("What is AI?", "Machines.", "b")]
    held = [chat("what is  AI?", "A field of computer science that has no one definition.", "b")]
    found = certify(train, held, ExactDuplicates())
    assert (found.near_duplicates, found.shared_prompts, found.shared_groups) == (0, 1, 1)
    plain = certify([Example(text="a")], [Example(text="b")], ExactDuplicates())
    assert (plain.shared_prompts, plain.shared_groups) == (0, 0)


def test_rows_like_a_held_out_one_are_dropped_naming_the_nearest() -> None:
    held = rows(["a b c d e f g h i j", "a b c d e f g h i k"], "held")
    mine = [Example(text="a b c d e f g h i k", origin="mine"), Example(text="q r s")]
    funnel = Funnel()
    assert without_leaks(mine, held, NearDuplicates(threshold=0.5), funnel, "leaks") == mine[1:]
    assert funnel.dropped == [Dropped("mine", "leaks", "similarity 1.00 to the held-out held 1")]


def test_system_messages_and_tool_results_are_not_compared() -> None:
    """They are often the same in every row."""
    system = {"role": "system", "content": " ".join(f"w{place}" for place in range(200))}

    def chat(prompt: str, answer: str) -> Example:
        return Example(messages=(system, {"role": "user", "content": prompt}, {"role": "assistant", "content": answer}))

    assert certify([chat("who?", "me")], [chat("where?", "here")], NearDuplicates()).highest is None


def test_what_is_wanted_may_be_raised_while_searching() -> None:
    held, others = texts(60, 1, words=20), texts(120, 2, words=20)
    index = SimilarTexts(held, Shape("words", 1), 0.3)
    for text in others:
        every = index.similar_to(text)
        for wanted in (0.4, 0.6, 0.9):
            assert index.similar_to(text, wanted) == [pair for pair in every if pair[1] >= wanted]


def templated(count: int) -> list[Example]:
    """Rows that differ in a number, so that all are similar and none is a near-duplicate of another."""
    text = "please turn the heating of room {} in the west wing to twenty degrees before noon if nobody minds"
    return rows([text.format(place) for place in range(count)], "row")


def test_templated_rows_below_the_threshold_all_stay() -> None:
    """Every pair has the same similarity, below the threshold: comparing them all would be quadratic."""
    examples = templated(600)
    assert near_duplicates(examples, NearDuplicates()).dropped == []
    found = certify(examples[60:], examples[:60], NearDuplicates())
    assert found.is_clean
    assert found.highest == 14 / 20
