"""The gate: each outcome, and the sentences that explain it."""

import pytest

from runspec.evaluation import GateSpec
from training.evaluation.general import merge_drift
from training.evaluation.results import Drift, EvaluationResult, Measurement, summarise
from training.evaluation.scores import gain, score
from training.evaluation.verdict import decide


def measured(metrics: dict[str, list[float]], *, cut: int = 0, origins: list[str] | None = None) -> Measurement:
    n = len(next(iter(metrics.values())))
    return Measurement(
        metrics=metrics,
        answers=["a"] * n,
        references=["r"] * n,
        origins=origins or [f"rows.jsonl:{i}" for i in range(n)],
        cut_short=[i < cut for i in range(n)],
        shots=[0] * n,
        seconds=1.0,
        tokens_generated=n,
    )


def moved(kl: float, prompts: int = 4) -> Drift:
    part = Drift(
        mean_kl=0, kl_low=0, kl_high=0, base_loss=0, tuned_loss=0, loss_rise=0, n_prompts=0, n_tokens=0,
        kl_by_prompt=[kl * 10] * prompts, base_nll_by_prompt=[10.0] * prompts,
        tuned_nll_by_prompt=[12.0] * prompts, tokens_by_prompt=[10] * prompts,
    )  # fmt: skip
    return merge_drift([part])


BAD, GOOD = [0.0] * 40, [1.0] * 30 + [0.0] * 10


def verdict(before=BAD, after=GOOD, few_shot=None, drift=None, metric="exact_match", **gate):
    return decide(
        gain(metric, before, after),
        score(metric, few_shot) if few_shot else None,
        score(metric, after),
        drift,
        GateSpec(metric=metric, **gate),
    )


def test_passes_and_quotes_the_gain():
    found = verdict(min_gain=0.5)
    assert (found.passed, found.outcome, found.tuning_needed) == (True, "passed", True)
    assert "+0.750" in found.reasons[0]
    assert "n = 40" in found.reasons[0]


def test_less_than_min_gain():
    found = verdict(min_gain=0.8)
    assert (found.passed, found.outcome) == (False, "too_little_gain")
    assert "gate.min_gain 0.8" in found.reasons[0]


def test_gain_that_may_be_chance():
    found = verdict(before=[0.0, 1.0] * 20, after=[1.0, 0.0] * 19 + [1.0, 1.0])
    assert found.outcome == "too_little_gain"
    assert "not beyond chance" in found.reasons[0]


def test_no_change_is_no_gain():
    assert not verdict(before=GOOD, after=GOOD).passed


def test_five_examples_prove_nothing():
    found = verdict(before=[0.0] * 5, after=[1.0] * 5)
    assert not found.passed
    assert "5 held-out examples are too few" in found.reasons[0]
    assert verdict(before=[0.0] * 6, after=[1.0] * 6).passed


def test_too_much_drift_quotes_both_numbers():
    found = verdict(drift=moved(0.3), max_drift=0.2)
    assert (found.passed, found.outcome) == (False, "too_much_drift")
    assert "0.3000" in found.reasons[0]
    assert "gate.max_drift 0.2" in found.reasons[0]
    assert verdict(drift=moved(0.1), max_drift=0.2).passed
    assert verdict(drift=moved(9.0)).passed  # no limit was set


def test_few_shot_baseline_reaches_the_target():
    found = verdict(few_shot=[1.0] * 36 + [0.0] * 4, target=0.9)
    assert (found.passed, found.outcome, found.tuning_needed) == (False, "tuning_not_needed", False)
    assert found.reasons[0].startswith("Tuning is not needed")
    assert verdict(few_shot=[1.0] * 35 + [0.0] * 5, target=0.9).passed


def test_the_target_is_only_remarked_on():
    assert any("does not reach gate.target 0.9" in reason for reason in verdict(target=0.9).reasons)


def test_every_reason_is_given():
    found = verdict(before=GOOD, after=GOOD, few_shot=[1.0] * 40, target=0.9, drift=moved(1.0), max_drift=0.5)
    assert found.outcome == "tuning_not_needed"
    assert len(found.reasons) >= 3


def test_a_loss_gains_by_falling():
    high, low = [2.0 + i / 100 for i in range(40)], [1.0 + i / 100 for i in range(40)]
    found = verdict(before=high, after=low, metric="loss", min_gain=0.5)
    assert found.passed
    assert "the gain is the fall" in found.reasons[0]
    assert not verdict(before=low, after=high, metric="loss").passed
    assert verdict(before=high, after=low, few_shot=low, metric="loss", target=1.5).outcome == "tuning_not_needed"
    assert verdict(before=high, after=low, few_shot=high, metric="loss", target=1.5).passed


def test_gain_is_paired():
    spread = [float(i % 2) for i in range(100)]
    better = [value + 0.01 for value in spread]
    found = gain("exact_match", spread, better)
    assert found.low == pytest.approx(0.01)  # the spread between examples does not blur it
    with pytest.raises(ValueError, match="zip"):
        gain("exact_match", [1.0], [1.0, 2.0])


def test_summary_survives_json_and_says_what_to_know():
    base = measured({"exact_match": BAD, "loss": [2.0] * 40}, cut=3)
    few_shot = measured({"exact_match": [1.0] * 10 + [0.0] * 30, "loss": [1.8] * 40})
    tuned = measured({"exact_match": GOOD, "loss": [1.0] * 40})
    found = summarise(base, few_shot, tuned, moved(0.1), GateSpec(max_drift=0.5))
    assert found.verdict.passed
    assert found.gain["loss"].mean == pytest.approx(1.0)
    assert found.gain_over_few_shot is not None
    assert found.gain_over_few_shot["exact_match"].mean == pytest.approx(0.5)
    assert "3 of 40 answers of the base model" in found.notes[0]
    assert EvaluationResult.model_validate_json(found.model_dump_json()) == found


def test_measurements_of_other_rows_are_refused():
    one, other = measured({"exact_match": BAD}), measured({"exact_match": BAD}, origins=["x"] * 40)
    with pytest.raises(ValueError, match="different examples"):
        summarise(one, None, other, None, GateSpec())


def test_drift_of_workers_adds_up_in_order():
    whole = merge_drift([moved(0.1, 2), moved(0.3, 1)])
    assert whole.kl_by_prompt == [1.0, 3.0, 1.0]
    assert whole.mean_kl == pytest.approx(5 / 30)
    assert whole.loss_rise == pytest.approx(0.2)
    assert (whole.n_prompts, whole.n_tokens) == (3, 30)
