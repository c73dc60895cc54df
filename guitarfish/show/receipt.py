"""The receipt as people read it: scores, time by phase, dollars, places."""

from __future__ import annotations

from guitarfish.show.rendering import dollars, duration, print_facts, say, show_table
from guitarfish.show.tables import (
    phase_table,
    plan_table,
    receipt_attempt_table,
    score_rows,
    score_table,
    untuned_score_rows,
)
from training.evaluation.results import Before, EvaluationResult
from training.run.receipt import Receipt


def show_receipt(receipt: Receipt) -> None:
    say("")
    show_scores(receipt.evaluation)
    say("")
    show_table(phase_table(receipt.seconds_by_phase))
    say("")
    price = receipt.attempts[-1]
    say(
        f"{dollars(receipt.usd)} for {duration(receipt.seconds)} at {dollars(price.price_usd_per_hour)} an hour "
        f"({price.price_source}), {receipt.tokens:,} tokens trained on, "
        f"best step {receipt.training.best_step} of {receipt.training.steps}"
    )
    if len(receipt.attempts) > 1:
        show_table(receipt_attempt_table(receipt.attempts))
    if receipt.plan is not None:
        say("")
        show_table(plan_table(f"plan: {receipt.plan.strategy}", receipt.plan.figures))
    say("")
    print_facts(receipt.places)


def show_scores(result: EvaluationResult) -> None:
    """Print scores before and after, the drift and the verdict."""
    rows = score_rows(result)
    table = score_table(rows, result.started_from or "base")
    show_table(table, f"scores on {rows[0].before.n} held-out rows, gains with 95 % intervals")
    if result.drift is not None:
        moved = result.drift
        say(
            f"drift on {moved.n_prompts} general prompts: mean KL {moved.mean_kl:.3f} nats per token "
            f"({moved.kl_low:.3f} to {moved.kl_high:.3f}), loss {moved.base_loss:.2f} to {moved.tuned_loss:.2f}"
        )
    say("")
    say("gate passed" if result.verdict.passed else "gate NOT passed")
    for sentence in [*result.verdict.reasons, *result.notes]:
        say(f"  {sentence}")


def show_base_scores(before: Before) -> None:
    """Print the scores of the untuned model, with and without examples in its prompt."""
    table = score_table(untuned_score_rows(before), "base")
    show_table(table, f"scores on {len(before.base.origins)} held-out rows, with 95 % intervals")
