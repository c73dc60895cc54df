"""What an evaluation measures, as it is stored under runs/<run-id>/evaluation/."""

from __future__ import annotations

from registry.card import Canary
from runspec.evaluation import GateSpec
from runspec.strict import Strict
from training.evaluation.scores import Drift, Gain, Score, gain, score
from training.evaluation.verdict import Verdict, decide

FEW_PAIRS = 30
"""With fewer pairs, bootstrap intervals are known to be too narrow."""


class Measurement(Strict):
    """What one model did on the hold-out, example by example."""

    metrics: dict[str, list[float]]
    """For each metric, a value per example. `loss` is each example's mean over its own answer tokens."""
    answers: list[str]
    """What the model said; empty if only the loss was measured."""
    references: list[str]
    origins: list[str]
    """Where each example comes from: file and row."""
    cut_short: list[bool]
    """Whether the answer ran into the length limit before the model ended its turn."""
    shots: list[int]
    """Few-shot examples in each prompt; fewer than asked for if the model's context had no room for more."""
    seconds: float
    """Wall-clock time of the slowest worker."""
    tokens_generated: int
    """Including the ones that end a turn."""


class Continuations(Strict):
    """The base model's own greedy continuations of general prompts."""

    prompts: list[str]
    prompt_token_ids: list[list[int]]
    """In the chat template, with the generation prompt at the end."""
    answer_token_ids: list[list[int]]
    """With the end-of-turn token, if the answer got that far."""


class Before(Strict):
    """What was measured before training."""

    base: Measurement
    """What the run starts from: the untuned model, or the adapter of `lora.start_from`."""
    few_shot: Measurement | None
    """The untuned model with examples in the prompt. Null: not asked for."""
    continuations: Continuations | None
    """Null: drift is not measured."""


class After(Strict):
    """What was measured after training."""

    tuned: Measurement
    drift: Drift | None
    canary: Canary | None


class EvaluationResult(Strict):
    """Before, after, the difference, and the verdict."""

    base: dict[str, Score]
    few_shot: dict[str, Score] | None
    """The untuned model with examples in its prompt. Null: not measured."""
    tuned: dict[str, Score]
    gain: dict[str, Gain]
    """Tuned against base, both without examples in the prompt."""
    gain_over_few_shot: dict[str, Gain] | None
    """Tuned without examples in the prompt against the untuned model with them."""
    drift: Drift | None
    gate: GateSpec
    """The thresholds behind the verdict."""
    verdict: Verdict
    notes: list[str]
    """What to know when reading the numbers."""
    started_from: str | None = None
    """The adapter that `base` was measured with. Null: the untuned model."""


def summarise(
    base: Measurement,
    few_shot: Measurement | None,
    tuned: Measurement,
    drift: Drift | None,
    gate: GateSpec,
    *,
    seed: int = 0,
    started_from: str | None = None,
) -> EvaluationResult:
    """Scores, paired gains and the verdict. Raises ValueError if the measurements are not of the same examples."""
    for other in (tuned, few_shot):
        if other is not None and other.origins != base.origins:
            raise ValueError("The measurements are of different examples, so they cannot be paired.")
    tuned_scores = _scores(tuned, seed)
    few_shot_scores = _scores(few_shot, seed) if few_shot else None
    gains = _gains(base, tuned, seed)
    return EvaluationResult(
        base=_scores(base, seed),
        few_shot=few_shot_scores,
        tuned=tuned_scores,
        gain=gains,
        gain_over_few_shot=_gains(few_shot, tuned, seed) if few_shot else None,
        drift=drift,
        gate=gate,
        verdict=decide(
            gains[gate.metric],
            few_shot_scores[gate.metric] if few_shot_scores else None,
            tuned_scores[gate.metric],
            drift,
            gate,
        ),
        notes=_notes(base, few_shot, tuned),
        started_from=started_from,
    )


def _scores(found: Measurement, seed: int) -> dict[str, Score]:
    return {metric: score(metric, values, seed=seed) for metric, values in found.metrics.items()}


def _gains(before: Measurement, after: Measurement, seed: int) -> dict[str, Gain]:
    return {metric: gain(metric, before.metrics[metric], after.metrics[metric], seed=seed) for metric in after.metrics}


def _notes(base: Measurement, few_shot: Measurement | None, tuned: Measurement) -> list[str]:
    notes = []
    for name, found in (("base model", base), ("few-shot baseline", few_shot), ("tuned model", tuned)):
        if found is not None and any(found.cut_short):
            notes.append(
                f"{sum(found.cut_short)} of {len(found.cut_short)} answers of the {name} reached "
                "evaluation.max_new_tokens before they ended."
            )
    if few_shot is not None and len(set(few_shot.shots)) > 1:
        notes.append(
            f"The few-shot baseline had {min(few_shot.shots)} to {max(few_shot.shots)} examples in its prompts: "
            "the model's context has no room for more."
        )
    if len(base.origins) < FEW_PAIRS:
        notes.append(f"With only {len(base.origins)} held-out examples the true intervals are wider than these.")
    return notes
