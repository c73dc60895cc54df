"""The canary: adapters that work pass despite the noise of training and serving, others fail."""

from __future__ import annotations

import math
import random

import pytest

from serving.engine.canary import MIN_GAP, judge

TUNED = [-0.01, -0.05, -0.02, -0.3]
BASE = [-6.0, -2.5, -4.0, -0.9]


def test_the_tuned_model_itself_passes() -> None:
    verdict = judge(TUNED, TUNED, BASE)
    assert verdict.passed
    assert verdict.conclusive
    assert verdict.position == pytest.approx(1)


def test_an_adapter_that_does_nothing_fails() -> None:
    verdict = judge(BASE, TUNED, BASE)
    assert not verdict.passed
    assert verdict.position == pytest.approx(0)
    assert "like the base model" in verdict.reason


@pytest.mark.parametrize("seed", range(20))
def test_noise_of_quantised_training_changes_no_verdict(seed: int) -> None:
    draw = random.Random(seed)
    noisy = lambda values: [value + draw.gauss(0, 0.3) for value in values]  # noqa: E731
    assert judge(noisy(TUNED), TUNED, BASE).passed
    assert not judge(noisy(BASE), TUNED, BASE).passed


def test_another_adapter_fails() -> None:
    other = [-9.0, -11.0, -0.1, -8.0]
    assert not judge(other, TUNED, BASE).passed


def test_an_adapter_applied_at_three_times_its_strength_fails() -> None:
    base, tuned = [-8.0, -8.0], [-6.0, -6.0]
    served = [-2.0, -2.0]
    verdict = judge(served, tuned, base)
    assert not verdict.passed
    assert "further than the base's" in verdict.reason


def test_models_too_similar_pass_as_inconclusive() -> None:
    near = [value - MIN_GAP / 2 for value in TUNED]
    verdict = judge(near, TUNED, near)
    assert verdict.passed
    assert not verdict.conclusive


def test_one_impossible_token_does_not_outweigh_the_others() -> None:
    base = [-math.inf, -2.5, -4.0, -0.9]
    assert judge(TUNED, TUNED, base).passed
    assert not judge(base, TUNED, base).passed


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2, 4, 4"):
        judge([-1.0, -1.0], TUNED, BASE)
