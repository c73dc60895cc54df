"""The receipt as people read it: scores, time by phase, dollars, places."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guitarfish.rendering import dollars, duration, print_facts, print_table, say, size

if TYPE_CHECKING:
    from training.evaluation.results import Before, EvaluationResult
    from training.planning.prediction import PlanBesideActual
    from training.receipt import Receipt


def show_receipt(receipt: Receipt) -> None:
    """Print a receipt to stdout."""
    say("")
    show_scores(receipt.evaluation)
    say("")
    show_spending(receipt)
    if receipt.plan is not None:
        say("")
        show_plan_beside(receipt.plan)
    say("")
    print_facts(receipt.places)


def show_spending(receipt: Receipt) -> None:
    """Print time by phase, and the attempts where there were several."""
    rows = [(phase, duration(seconds)) for phase, seconds in receipt.seconds_by_phase.items()]
    print_table(["phase", "time"], [*rows, ("all", duration(receipt.seconds))], right="time")
    say("")
    price = receipt.attempts[-1]
    say(
        f"{dollars(receipt.usd)} at {dollars(price.price_usd_per_hour)} an hour ({price.price_source}), "
        f"{receipt.tokens:,} tokens trained on, best step {receipt.training.best_step} of {receipt.training.steps}"
    )
    if len(receipt.attempts) > 1:
        print_table(
            ["attempt", "outcome", "to step", "recomputed", "time", "cost"],
            [
                (a.attempt, a.outcome, a.steps_to, a.recomputed_steps, duration(a.seconds), dollars(a.usd))
                for a in receipt.attempts
            ],
            right="attempt recomputed time cost",
        )


def show_plan_beside(plan: PlanBesideActual) -> None:
    """Print what was predicted beside what it came to."""
    written = {"bytes": size, "seconds": duration, "USD": dollars}
    rows = []
    for figure in plan.figures:
        write = written[figure.unit]
        predicted, actual = (None if value is None else write(value) for value in (figure.predicted, figure.actual))
        ratio = f"x {figure.actual / figure.predicted:.2f}" if figure.predicted and figure.actual else None
        rows.append((figure.name, predicted, actual, ratio))
    headings = [f"plan: {plan.strategy}", "predicted", "actual", "ratio"]
    print_table(headings, rows, right="predicted actual ratio")


def show_scores(result: EvaluationResult) -> None:
    """Print scores before and after with their intervals, the drift and the verdict."""
    few_shot = result.few_shot
    before_title = result.started_from or "base"
    headings = ["metric", before_title, *(["few-shot"] if few_shot else []), "tuned", "gain", "95 % interval"]
    rows = []
    for metric, tuned in result.tuned.items():
        gain = result.gain[metric]
        shots = [_number(few_shot[metric].mean)] if few_shot else []
        interval = f"{_number(gain.low, signed=True)} to {_number(gain.high, signed=True)}"
        before = _number(result.base[metric].mean)
        rows.append([metric, before, *shots, _number(tuned.mean), _number(gain.mean, signed=True), interval])
    count = next(iter(result.tuned.values())).n
    print_table(headings, rows, title=f"scores on {count} held-out rows", right=f"{before_title} few-shot tuned gain")
    if result.drift is not None:
        moved = result.drift
        say(
            f"drift on {moved.n_prompts} general prompts: mean KL {moved.mean_kl:.3f} nats a token "
            f"({moved.kl_low:.3f} to {moved.kl_high:.3f}), loss {moved.base_loss:.2f} to {moved.tuned_loss:.2f}"
        )
    say("")
    say("gate passed" if result.verdict.passed else "gate NOT passed")
    for sentence in [*result.verdict.reasons, *result.notes]:
        say(f"  {sentence}")


def show_base_scores(before: Before) -> None:
    """Print what the untuned model scores, with and without examples in its prompt."""
    from training.evaluation.scores import score

    headings = ["metric", "base", "95 % interval", *(["few-shot", "95 % interval "] if before.few_shot else [])]
    rows = []
    for metric, values in before.base.metrics.items():
        cells = [metric]
        for found in [values, *([before.few_shot.metrics[metric]] if before.few_shot else [])]:
            mean = score(metric, found)
            cells += [_number(mean.mean), f"{_number(mean.low)} to {_number(mean.high)}"]
        rows.append(cells)
    print_table(headings, rows, title=f"scores on {len(before.base.origins)} held-out rows", right="base few-shot")


def _number(value: float, *, signed: bool = False) -> str:
    return f"{value:+.3f}" if signed else f"{value:.3f}"
