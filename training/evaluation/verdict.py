"""The gate: whether the adapter may be published, decided from numbers alone."""

from __future__ import annotations

from runspec.evaluation import GateSpec
from training.evaluation.scores import Drift, Gain, Outcome, Score, Verdict, lower_is_better

LEAST_PAIRS = 6
"""With n pairs a sign-flip test cannot give less than p = 2 / 2**n, so below 6 no gain is significant at 5 %."""


def decide(gain: Gain, few_shot: Score | None, tuned: Score, drift: Drift | None, gate: GateSpec) -> Verdict:
    """Compare what was measured with the run file's thresholds.

    Args:
        gain: of `gate.metric`, tuned against base.
        few_shot: `gate.metric` of the untuned model with examples in its prompt; None if it was not measured.
        tuned: `gate.metric` of the tuned model.
        drift: None if it was not measured; then `gate.max_drift` is not checked.
    """
    needed = not reaches(few_shot, gate.target)
    failures: list[tuple[Outcome, str]] = []
    if few_shot is not None and gate.target is not None and not needed:
        failures.append(("tuning_not_needed", _not_needed(few_shot, gate.target)))
    failures += [("too_little_gain", sentence) for sentence in _gain_failures(gain, gate)]
    if drift is not None and gate.max_drift is not None and drift.mean_kl > gate.max_drift:
        failures.append(("too_much_drift", _drifted(drift, gate.max_drift)))
    reasons = [sentence for _, sentence in failures] or _what_held(gain, drift, gate)
    return Verdict(
        passed=not failures,
        outcome=failures[0][0] if failures else "passed",
        reasons=[*reasons, *_remarks(tuned, gate)],
        tuning_needed=needed,
    )


def reaches(found: Score | None, target: float | None) -> bool:
    """Whether a score is as good as the target, in the direction of its metric. False if either is missing."""
    if found is None or target is None:
        return False
    return found.mean <= target if lower_is_better(found.metric) else found.mean >= target


def _not_needed(few_shot: Score, target: float) -> str:
    return (
        f"Tuning is not needed: the untuned model with examples in its prompt has {_scored(few_shot)}, "
        f"which reaches gate.target {target:g}."
    )


def _gain_failures(gain: Gain, gate: GateSpec) -> list[str]:
    found = []
    if gain.mean < gate.min_gain:
        found.append(f"The gain in {_gained(gain)} is less than gate.min_gain {gate.min_gain:g}.")
    if gain.n < LEAST_PAIRS:
        found.append(
            f"{gain.n} held-out examples cannot tell a gain from chance: at least {LEAST_PAIRS} are needed, "
            "and a few dozen are better."
        )
    elif gain.low <= 0:
        found.append(f"The gain in {_gained(gain)} is not beyond chance: its interval does not lie above 0.")
    return found


def _drifted(drift: Drift, limit: float) -> str:
    return f"The model moved too far on general prompts: {_moved(drift)}, more than gate.max_drift {limit:g}."


def _what_held(gain: Gain, drift: Drift | None, gate: GateSpec) -> list[str]:
    held = [f"The gain in {_gained(gain)} is beyond chance and at least gate.min_gain {gate.min_gain:g}."]
    if drift is not None and gate.max_drift is not None:
        held.append(f"On general prompts the model moved little: {_moved(drift)}, at most {gate.max_drift:g}.")
    return held


def _remarks(tuned: Score, gate: GateSpec) -> list[str]:
    if gate.target is None:
        return []
    verb = "reaches" if reaches(tuned, gate.target) else "does not reach"
    return [f"The tuned model has {_scored(tuned)}, which {verb} gate.target {gate.target:g}."]


def _scored(found: Score) -> str:
    return f"{found.metric} {found.mean:.3f} (95 % interval {found.low:.3f} to {found.high:.3f}, n = {found.n})"


def _gained(gain: Gain) -> str:
    direction = "; lower is better, so the gain is the fall" if gain.lower_is_better else ""
    return (
        f"{gain.metric}, {gain.mean:+.3f} (95 % interval {gain.low:+.3f} to {gain.high:+.3f}, n = {gain.n}{direction}),"
    )


def _moved(drift: Drift) -> str:
    return f"mean KL {drift.mean_kl:.4f} nats a token (95 % interval {drift.kl_low:.4f} to {drift.kl_high:.4f})"
