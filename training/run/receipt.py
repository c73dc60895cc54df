"""The receipt of a run: time by phase, tokens, dollars, scores before and after, and where everything is."""

from __future__ import annotations

from datetime import UTC, datetime

from cluster.billing.ledger import Attempt, total_cost
from runspec.strict import Strict
from training.evaluation.results import EvaluationResult
from training.planning.prediction import PlanBesideActual, Prediction, beside
from training.run.results import TrainingResult


class AttemptLine(Strict):
    """One attempt, as the receipt lists it."""

    attempt: int
    outcome: str
    """finished, pruned, failed, interrupted, over_budget, worker_lost, or lost where it has no end."""
    steps_to: int
    """The optimiser step it had reached."""
    recomputed_steps: int
    seconds: float
    usd: float
    price_usd_per_hour: float
    price_source: str


class Receipt(Strict):
    """What a run cost and achieved. Stored as receipt.json."""

    run_id: str
    finished_at: datetime
    outcome: str
    """published, kept (gate not passed), or kept (publish is null)."""
    seconds_by_phase: dict[str, float]
    """Over all attempts."""
    seconds: float
    usd: float
    tokens: int
    """Tokens trained on, recomputed ones included."""
    attempts: list[AttemptLine]
    training: TrainingResult
    evaluation: EvaluationResult
    places: dict[str, str]
    """Where things are, by name."""
    plan: PlanBesideActual | None = None
    """Predicted beside measured. Null: nothing was predicted."""


def make_receipt(
    run_id: str,
    attempts: list[Attempt],
    training: TrainingResult,
    evaluation: EvaluationResult,
    outcome: str,
    places: dict[str, str],
    prediction: Prediction | None,
) -> Receipt:
    cost = total_cost(attempts)
    by_phase = {str(phase): seconds for phase, seconds in cost.by_phase.items()}
    return Receipt(
        run_id=run_id,
        finished_at=datetime.now(UTC),
        outcome=outcome,
        seconds_by_phase={phase: seconds for phase, seconds in by_phase.items() if seconds >= 0.05},
        seconds=sum(attempt.seconds_total for attempt in attempts),
        usd=cost.usd,
        tokens=sum(attempt.tokens for attempt in attempts),
        attempts=[
            AttemptLine(
                attempt=attempt.start.attempt,
                outcome=attempt.outcome,
                steps_to=attempt.step,
                recomputed_steps=attempt.recomputed_steps,
                seconds=attempt.seconds_total,
                usd=attempt.cost_usd,
                price_usd_per_hour=attempt.start.price_usd_per_hour,
                price_source=attempt.start.price_source,
            )
            for attempt in attempts
        ],
        training=training,
        evaluation=evaluation,
        places=places,
        plan=beside(prediction, training, by_phase, cost.usd) if prediction else None,
    )
