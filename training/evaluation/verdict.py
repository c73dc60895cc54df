"""The gate: whether the adapter may be published, decided from numbers alone."""

from __future__ import annotations

from typing import Literal

from runspec.evaluation import GateSpec
from runspec.strict import Strict
from training.evaluation.scores import Drift, Gain, Score, lower_is_better

LEAST_PAIRS = 6
"""With n pairs a sign-flip test cannot give less than p = 2 / 2**n: below 6 no gain is significant at 5 %."""

Outcome = Literal["passed", "tuning_not_needed", "too_little_gain", "too_much_drift"]


class Verdict(Strict):
    passed: bool
    outcome: Outcome
    """The most important of the reasons."""
    reasons: list[str]
    """Sentences for the user, with the numbers; all of them, not only the first."""
    tuning_needed: bool
    """False: the untuned model with a few examples in its prompt already reaches `gate.target`."""


def decide(gain: Gain, few_shot: Score | None, tuned: Score, drift: Drift | None, gate: GateSpec) -> Verdict:
    """Compare what was measured with the run file's thresholds.

    Args:
        gain: of `gate.metric`, tuned against base.
        few_shot: `gate.metric` of the untuned model with examples in its prompt; None if it was not measured.
        tuned: `gate.metric` of the tuned model.
        drift: None if it was not measured; then `gate.max_drift` is not checked.
    """
    failures: list[tuple[Outcome, str]] = []
    held: list[str] = []
    needed = not reaches(few_shot, gate.target)
    if few_shot is not None and gate.target is not None and not needed:
        sentence = f"Tuning is not needed: the untuned model with examples in its prompt has {_scored(few_shot)}, "
        failures.append(("tuning_not_needed", f"{sentence}which reaches gate.target {gate.target:g}."))
    if gain.mean < gate.min_gain:
        sentence = f"The gain in {_gained(gain)} is less than gate.min_gain {gate.min_gain:g}."
        failures.append(("too_little_gain", sentence))
    if gain.n < LEAST_PAIRS:
        sentence = f"{gain.n} held-out examples are too few to tell a gain from chance: "
        failures.append(("too_little_gain", f"{sentence}{LEAST_PAIRS} are needed, a few dozen are better."))
    elif gain.low <= 0:
        sentence = f"The gain in {_gained(gain)} is not beyond chance: its interval is not above 0."
        failures.append(("too_little_gain", sentence))
    held.append(f"The gain in {_gained(gain)} is beyond chance and at least gate.min_gain {gate.min_gain:g}.")
    if drift is not None and gate.max_drift is not None:
        moved = f"mean KL {drift.mean_kl:.4f} nats per token (95 % interval {drift.kl_low:.4f} to {drift.kl_high:.4f})"
        if drift.mean_kl > gate.max_drift:
            sentence = f"The model moved too far on general prompts: {moved}, more than gate.max_drift "
            failures.append(("too_much_drift", f"{sentence}{gate.max_drift:g}."))
        held.append(f"On general prompts the model moved only a little: {moved}, at most {gate.max_drift:g}.")
    reasons = [sentence for _, sentence in failures] or held
    if gate.target is not None:
        verb = "reaches" if reaches(tuned, gate.target) else "does not reach"
        reasons.append(f"The tuned model has {_scored(tuned)}, which {verb} gate.target {gate.target:g}.")
    return Verdict(
        passed=not failures,
        outcome=failures[0][0] if failures else "passed",
        reasons=reasons,
        tuning_needed=needed,
    )


def reaches(found: Score | None, target: float | None) -> bool:
    """Whether a score is as good as the target, in the direction of its metric. False if either is missing."""
    if found is None or target is None:
        return False
    return found.mean <= target if lower_is_better(found.metric) else found.mean >= target


def _scored(found: Score) -> str:
    return f"{found.metric} {found.mean:.3f} (95 % interval {found.low:.3f} to {found.high:.3f}, n = {found.n})"


def _gained(gain: Gain) -> str:
    direction = "; lower is better, so the gain is the fall" if gain.lower_is_better else ""
    return (
        f"{gain.metric}, {gain.mean:+.3f} (95 % interval {gain.low:+.3f} to {gain.high:+.3f}, n = {gain.n}{direction}),"
    )
