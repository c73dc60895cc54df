"""The first thing a report says: how the run ended, in one sentence, why, and what can be done next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cluster.billing.ledger import total_cost
from guitarfish.report.gather import ReportData
from guitarfish.show.rendering import duration
from guitarfish.show.search_view import why_chosen
from training.evaluation.results import EvaluationResult
from training.evaluation.scores import Gain, Score

Tone = Literal["good", "bad", "open"]
ENDED = {
    "failed": "failed",
    "interrupted": "was stopped",
    "over_budget": "reached the run's budget",
    "worker_lost": "lost a worker",
}


@dataclass(frozen=True)
class Headline:
    """How a run ended.

    Attributes:
        tone: good, bad, or open: not decided.
        badge: the verdict in a word or two: colour is never the only sign.
        sentence: the verdict.
        reasons: with the numbers.
        next_step: a command line; empty where there is nothing to do.
    """

    tone: Tone
    badge: str
    sentence: str
    reasons: tuple[str, ...] = ()
    next_step: str = ""


@dataclass(frozen=True)
class GateScore:
    """The score that the gate looks at."""

    metric: str
    before: Score
    after: Score
    gain: Gain


def headline(data: ReportData) -> Headline:
    """The verdict of a run in one sentence."""
    if data.kind == "search":
        return _of_search(data)
    if data.result is not None:
        return _of_result(data, data.result)
    if data.kind == "pairs":
        said = "Answers were drawn to make preference pairs from; nothing was trained or measured."
        return Headline("open", "drawn", said)
    if data.kind == "evaluate" and data.before is not None:
        said = "The untuned model was measured, with and without examples in its prompt; nothing was trained."
        return Headline("open", "measured", said)
    return _of_unfinished(data)


def gate_score(data: ReportData) -> GateScore | None:
    """The gate's metric before and after; None where the run was not measured after training."""
    result = data.result
    if result is None:
        return None
    metric = result.gate.metric
    return GateScore(metric, result.base[metric], result.tuned[metric], result.gain[metric])


def dollars_and_seconds(data: ReportData) -> tuple[float, float]:
    """Cost and time of all attempts, those of a search's trials included."""
    attempts = [*data.attempts, *data.trial_attempts]
    return total_cost(attempts).usd, sum(attempt.seconds_total for attempt in attempts)


def _of_result(data: ReportData, result: EvaluationResult) -> Headline:
    reasons = tuple(result.verdict.reasons)
    if not result.verdict.passed:
        return Headline("bad", "gate not passed", _refused(data, result), reasons)
    if data.publication is not None:
        at = data.publication
        moved = f" {at.adapter}@{at.alias} points to it." if at.alias else " No alias was moved."
        return Headline("good", "published", f"Published as {at.adapter}@{at.version}.{moved}", reasons)
    if data.kind == "evaluate":
        return Headline("good", "gate passed", "Measured, not trained: the adapter passes the gate.", reasons)
    if data.trial is not None:
        said = f"Trial {data.trial.number} of the search {data.trial.search} passes the gate; trials are not published."
        step = f"guitarfish adapters publish --run {data.run_id}"
        return Headline("good", "gate passed", said, reasons, step)
    if data.spec.publish is None:
        said = "The gate was passed. The run file has publish: null, so the adapter stays with its run."
        return Headline("good", "gate passed", said, reasons, f"guitarfish adapters publish --run {data.run_id}")
    said = "The gate was passed; the adapter is still to be published."
    return Headline("open", "not finished", said, reasons, f"guitarfish train --resume {data.run_id}")


def _refused(data: ReportData, result: EvaluationResult) -> str:
    metric, outcome = result.gate.metric, result.verdict.outcome
    if outcome == "tuning_not_needed":
        return (
            "Tuning is not needed: the untuned model with a few examples in its prompt is already good enough "
            f"in {metric}."
        )
    why = {
        "too_little_gain": f"the gain in {metric} {_shortfall(result)}",
        "too_much_drift": "the model moved too far on general prompts",
    }[outcome]
    start = {"train": "Not published", "trial": "Not chosen for publishing"}.get(data.kind, "Measured, not trained")
    return f"{start}: the gate was not passed, because {why}."


def _shortfall(result: EvaluationResult) -> str:
    gain = result.gain[result.gate.metric]
    small = ["is smaller than gate.min_gain"] if gain.mean < result.gate.min_gain else []
    return " and ".join([*small, *(["may be chance"] if gain.low <= 0 or not small else [])])


def _of_unfinished(data: ReportData) -> Headline:
    verb, run = ("train", data.run_id) if data.trial is None else ("tune", data.trial.search)
    step = f"guitarfish {verb} --resume {run}"
    if data.kind == "evaluate":
        step = "guitarfish evaluate with the same run file: it starts again"
    if not data.attempts:
        return Headline("open", "not started", "Nothing has been done in this run yet.", next_step=step)
    last = data.attempts[-1]
    at = f"attempt {last.start.attempt}, at step {last.step}"
    match data.state:
        case "running":
            return Headline("open", "running", f"Still running when this report was made: {at}.")
        case "pruned":
            said = f"Stopped early, at step {last.step}: other trials of the search were ahead of it."
            return Headline("open", "stopped early", said)
        case "finished":
            return Headline("open", "not measured", f"It ended in {at}, without a verdict.", next_step=step)
        case "lost":
            said = f"Not finished: {at}, has not been heard from for {_ago(data)}."
            return Headline("bad", "not finished", said, (last.reason,), step)
        case _:
            how = ENDED.get(data.state, f"ended as {data.state.replace('_', ' ')}")
            said = f"Not finished: attempt {last.start.attempt} {how} at step {last.step}."
            step += " --budget USD" if str(data.state) == "over_budget" else ""
            return Headline("bad", "not finished", said, (last.reason,) if last.reason else (), step)


def _ago(data: ReportData) -> str:
    return duration((data.now - data.attempts[-1].last_at).total_seconds())


def _of_search(data: ReportData) -> Headline:
    step = f"guitarfish tune --resume {data.run_id}"
    if data.search is None:
        said = "The search has not made a choice yet."
        reasons = tuple(attempt.reason for attempt in data.attempts[-1:] if attempt.reason)
        return Headline("open", "not finished", said, reasons, step)
    passed = data.search.trials[data.search.chosen].passed
    why = why_chosen(data.search)
    found = ["The chosen trial passes the gate." if passed else "The chosen trial does not pass the run file's gate."]
    if data.search.ended == "budget":
        found.append("The budget ended the search before all trials were run.")
    return Headline(
        "good" if passed else "bad",
        "gate passed" if passed else "gate not passed",
        f"{why[0].upper()}{why[1:]}.",
        tuple(found),
        f"guitarfish adapters publish --run {data.search.trials[data.search.chosen].run_id}",
    )
