"""How a search ended: what each trial gave, read off the store, the choice among them, and the run file of it."""

from __future__ import annotations

from pathlib import Path

from cluster.billing.ledger import Attempt, Ledger, total_cost
from cluster.store.storage import Store
from runspec.run import RunSpec
from training.evaluation.results import After, Before, EvaluationResult
from training.evaluation.scores import Score, score
from training.run.pipeline import Finished, receipt_of
from training.run.results import TrainingResult
from tuning.choice import Candidate, choose
from tuning.chosen_file import render
from tuning.records import CURVE, Curve, Ended, SearchRecord, SearchResult, TrialLine, read_search
from tuning.space import Trial, trial_run_id


def conclude(
    search_id: str, spec: RunSpec, store: Store, trials: list[Trial], ended: Ended, budget_usd: float | None
) -> SearchResult | None:
    """Choose among the trials that were measured, and write the result, their receipts and the chosen run file.

    Returns:
        None where no trial was measured.
    """
    lines = [_line(search_id, spec, store, trial) for trial in trials]
    measured = [line for line in lines if line.score is not None]
    if not measured:
        return None
    for line in measured:
        _write_receipt(store, line.run_id)
    candidates = [_candidate(spec, store, line) for line in measured]
    choice = choose(candidates, spec.gate.metric, max_drift=spec.gate.max_drift, seed=spec.seed)
    number = 1 + sum(name.startswith("result-") for name in store.list(f"runs/{search_id}"))
    written_to = f"runs/{search_id}/tuned-{number}.yaml"
    search_usd = total_cost(Ledger(store, search_id).attempts()).usd
    result = SearchResult(
        search=search_id,
        metric=spec.gate.metric,
        ended=ended,
        trials=lines,
        **vars(choice),
        base_score=_base_score(search_id, spec, store),
        cost_usd=search_usd + sum(line.cost_usd for line in lines),
        budget_usd=budget_usd,
        run_file=written_to,
    )
    record = read_search(store, search_id)
    text = render(record, trials[choice.chosen], head_of(result, record), absolute=True)
    store.create(written_to, text.encode())
    store.create(f"runs/{search_id}/result-{number}.json", result.model_dump_json(indent=1).encode())
    return result


def chosen_run_file(result: SearchResult, record: SearchRecord, trials: list[Trial]) -> str:
    """The chosen run file for the folder that the search's run file lies in: its relative paths are kept."""
    return render(record, trials[result.chosen], head_of(result, record))


def head_of(result: SearchResult, record: SearchRecord) -> list[str]:
    """Where the run file comes from, in a few lines."""
    chosen, best = result.trials[result.chosen], result.trials[result.best]
    taken = "the best" if chosen is best else f"the smallest rank that cannot be told from the best, rank {best.rank}"
    source = Path(record.run_file).name
    lines = [
        f"Written by `guitarfish tune` from {source}: search {result.search}, trial {chosen.number}.",
        f"{result.metric} {in_words(chosen.score)}: {taken}.",
        "Changed: lora.rank, lora.alpha, training.learning_rate; tuning is left out.",
    ]
    if result.ended == "budget":
        lines.insert(2, "The budget ended the search before all trials were run.")
    return lines


def in_words(found: Score | None) -> str:
    """A score with its interval."""
    return "-" if found is None else f"{found.mean:.3f} (95 % interval {found.low:.3f} to {found.high:.3f})"


def _line(search_id: str, spec: RunSpec, store: Store, trial: Trial) -> TrialLine:
    run_id = trial_run_id(search_id, trial.number)
    folder = f"runs/{run_id}"
    attempts = Ledger(store, run_id).attempts()
    curve = _read(store, f"{folder}/{CURVE}")
    evaluation = store.read_if_there(f"{folder}/evaluation/result.json")
    result = EvaluationResult.model_validate_json(evaluation) if evaluation else None
    return TrialLine(
        number=trial.number,
        run_id=run_id,
        rank=trial.rank,
        alpha=trial.alpha,
        learning_rate=trial.learning_rate,
        outcome=_outcome(attempts, result),
        reason=attempts[-1].reason if attempts and result is None else "",
        step=max((attempt.step for attempt in attempts), default=0),
        holdout_loss=curve.losses[-1] if curve and curve.losses else None,
        score=result.tuned[spec.gate.metric] if result else None,
        mean_kl=result.drift.mean_kl if result and result.drift else None,
        passed=result.verdict.passed if result else None,
        cost_usd=total_cost(attempts).usd,
    )


def _outcome(attempts: list[Attempt], result: EvaluationResult | None) -> str:
    if result is not None:
        return "finished"
    return attempts[-1].outcome if attempts else "not started"


def _read(store: Store, path: str) -> Curve | None:
    content = store.read_if_there(path)
    return Curve.model_validate_json(content) if content else None


def _candidate(spec: RunSpec, store: Store, line: TrialLine) -> Candidate:
    after = After.model_validate_json(store.read(f"runs/{line.run_id}/evaluation/after.json"))
    return Candidate(line.number, line.rank, after.tuned.metrics[spec.gate.metric], line.mean_kl)


def _base_score(search_id: str, spec: RunSpec, store: Store) -> float:
    before = Before.model_validate_json(store.read(f"runs/{search_id}/evaluation/before.json"))
    return score(spec.gate.metric, before.base.metrics[spec.gate.metric], seed=spec.seed).mean


def _write_receipt(store: Store, run_id: str) -> None:
    folder = f"runs/{run_id}"
    result = EvaluationResult.model_validate_json(store.read(f"{folder}/evaluation/result.json"))
    training = TrainingResult.model_validate_json(store.read(f"{folder}/training.json"))
    receipt_of(store, run_id, Finished(result, training, None))
