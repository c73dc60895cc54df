"""The choice among measured trials, on constructed cases."""

from __future__ import annotations

import random

import pytest

from tuning.choice import Candidate, choose

ROWS = 100


def scores(right: int, seed: int = 0, rows: int = ROWS) -> list[float]:
    """`right` rows of `rows` answered well, in an order that the seed shuffles."""
    values = [1.0] * right + [0.0] * (rows - right)
    random.Random(seed).shuffle(values)
    return values


def candidates(*each: tuple[int, list[float]], kl: list[float] | None = None) -> list[Candidate]:
    """Trials by rank and values."""
    return [Candidate(number, rank, values, kl[number] if kl else None) for number, (rank, values) in enumerate(each)]


def test_a_clear_winner_is_taken_whatever_its_rank() -> None:
    found = choose(candidates((2, scores(30)), (8, scores(40, 1)), (32, scores(90, 2))), "exact", max_drift=None)
    assert (found.chosen, found.best, found.equals) == (2, 2, [2])


def test_the_smallest_rank_that_cannot_be_told_from_the_best_is_taken() -> None:
    best = scores(80)
    nearly = [*best]
    nearly[nearly.index(1.0)] = 0.0  # one row worse
    found = choose(candidates((2, scores(40, 1)), (8, nearly), (16, best), (32, best)), "exact", max_drift=None)
    assert found.best == 2  # of equal means the smaller rank
    assert found.equals == [1, 2, 3]
    assert found.chosen == 1


def test_scores_are_paired_row_by_row() -> None:
    """Ten rows of a hundred worse and none better is beyond chance; the two intervals by themselves overlap widely."""
    best = scores(60)
    worse = [0.0 if value and place < 17 else value for place, value in enumerate(best)]
    lost = int(sum(best) - sum(worse))
    assert 6 <= lost <= 14
    found = choose(candidates((2, worse), (32, best)), "exact", max_drift=None)
    assert found.chosen == 1


def test_independent_scores_need_a_wider_gap() -> None:
    found = choose(candidates((2, scores(50, 1)), (32, scores(60, 2))), "exact", max_drift=None)
    assert (found.best, found.chosen) == (1, 0)


def test_of_two_equal_trials_of_one_rank_the_better_mean_is_taken() -> None:
    better = scores(70)
    worse = [*better]
    worse[worse.index(1.0)] = 0.0
    found = choose(candidates((4, worse), (4, better), (8, better)), "exact", max_drift=None)
    assert found.chosen == 1


def test_a_loss_is_better_when_lower() -> None:
    low = [0.5 + 0.001 * place for place in range(ROWS)]
    high = [value + 0.2 for value in low]
    found = choose(candidates((2, high), (4, low), (8, low)), "loss", max_drift=None)
    assert (found.best, found.chosen, found.equals) == (1, 1, [1, 2])


def test_a_trial_that_moved_too_far_is_left_out() -> None:
    found = choose(candidates((2, scores(60)), (8, scores(95, 1)), kl=[0.1, 2.0]), "exact", max_drift=1.0)
    assert (found.chosen, found.best, found.too_far) == (0, 0, [1])


def test_where_all_moved_too_far_none_is_left_out() -> None:
    found = choose(candidates((2, scores(20)), (8, scores(95, 1)), kl=[2.0, 3.0]), "exact", max_drift=1.0)
    assert (found.chosen, found.too_far) == (1, [])


def test_drift_is_not_looked_at_without_a_limit() -> None:
    assert choose(candidates((2, scores(90)), kl=[9.0]), "exact", max_drift=None).chosen == 0


def test_one_trial_is_the_choice() -> None:
    assert choose(candidates((16, scores(1))), "exact", max_drift=None).chosen == 0


def test_nothing_to_choose_from() -> None:
    with pytest.raises(ValueError, match="empty"):
        choose([], "exact", max_drift=None)
