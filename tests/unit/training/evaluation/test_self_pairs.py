"""Which of a model's own answers become a pair."""

import pytest

from runspec.errors import DataError
from training.data.example import Example
from training.evaluation.self_pairs import Sampled, pick_pairs


def example(reference: str = "right") -> Example:
    return Example(({"role": "user", "content": "?"}, {"role": "assistant", "content": reference}))


def test_the_commonest_right_answer_stands_against_the_commonest_wrong_one() -> None:
    sampled = Sampled(answers=[["a", "b", "x", "y", "y", "b"]], values=[[1, 1, 0, 0, 0.5, 1]])
    (pair,), fates = pick_pairs([example()], sampled)
    assert (pair.chosen, pair.rejected) == ("b", "y")
    assert fates == {"right against wrong": 1}


def test_where_no_draw_is_right_the_data_answers_if_asked_to() -> None:
    sampled = Sampled(answers=[["x", "y"]], values=[[0, 0]])
    (pair,), fates = pick_pairs([example("gold")], sampled, or_reference=True)
    assert (pair.chosen, pair.rejected) == ("gold", "x")
    assert fates == {"none right: the data's answer taken": 1}


def test_a_prompt_that_is_always_answered_right_gives_no_pair() -> None:
    sampled = Sampled(answers=[["a"], ["a", "x"], ["x"]], values=[[1], [1, 0], [0]])
    pairs, fates = pick_pairs([example()] * 3, sampled)
    assert len(pairs) == 1
    assert fates == {"all right": 1, "right against wrong": 1, "none right": 1}


def test_an_empty_answer_is_no_answer_to_reject() -> None:
    pairs, _ = pick_pairs(
        [example(), example()], Sampled(answers=[["a", "", "x"], ["a", ""]], values=[[1, 0, 0], [1, 0]])
    )
    assert [pair.rejected for pair in pairs] == ["x"]


def test_nothing_wrong_at_all_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DataError) as caught:
        pick_pairs([example()], Sampled(answers=[["a"]], values=[[1]]))
    assert "No prompt of 1 has both a right and a wrong answer: 1 were answered right" in caught.value.what
    assert caught.value.where == "guitarfish pairs"
    assert "--temperature" in caught.value.fix
