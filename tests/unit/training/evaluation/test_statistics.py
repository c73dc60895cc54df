"""Bootstrap intervals: what must hold of them whatever the seed."""

import numpy as np
import pytest

from training.evaluation.statistics import bootstrap


def test_same_seed_same_interval():
    values = [0.1, 1.0, 1.3, 0.2, 1.7, 1.1, 1.9]
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3)
    assert bootstrap(values, seed=3) != bootstrap(values, seed=4)


def test_interval_holds_the_mean_and_moves_with_it():
    values = np.random.default_rng(0).normal(size=80)
    here, there = bootstrap(values.tolist()), bootstrap((values + 5).tolist())
    assert here.low < here.mean < here.high
    assert there.low == pytest.approx(here.low + 5)
    assert there.high == pytest.approx(here.high + 5)


def test_agrees_with_the_normal_interval_where_that_is_right():
    values = np.random.default_rng(1).normal(size=400)
    found, half = bootstrap(values.tolist()), 1.96 * values.std() / 20
    assert found.low == pytest.approx(found.mean - half, abs=0.01)
    assert found.high == pytest.approx(found.mean + half, abs=0.01)


def test_skew_pulls_the_interval_to_the_long_side():
    found = bootstrap([1.0] * 62 + [0.0] * 2)
    assert found.mean - found.low > 2 * (found.high - found.mean)
    assert 0 <= found.low <= found.high <= 1


def test_values_all_alike_give_no_width():
    assert bootstrap([0.5] * 9).low == bootstrap([0.5] * 9).high == 0.5
    assert bootstrap([3.0]).mean == 3.0


def test_mean_over_tokens_weighs_each_prompt_by_its_tokens():
    found = bootstrap([10.0, 1.0], [10.0, 100.0])
    assert found.mean == pytest.approx(11 / 110)
    assert found.low <= found.mean <= found.high


def test_covers_about_95_of_100():
    generator = np.random.default_rng(2)
    inside = 0
    for seed in range(200):
        found = bootstrap(generator.exponential(size=40).tolist(), seed=seed)
        inside += found.low <= 1 <= found.high
    assert inside >= 180  # small samples of a skewed distribution fall a little short


def test_nothing_to_average_is_an_error():
    with pytest.raises(ValueError, match="no values"):
        bootstrap([])
