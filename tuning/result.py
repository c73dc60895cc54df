"""The result of a search: the trials as the store has them, the choice among them, the chosen run file."""

from __future__ import annotations

from pathlib import Path

from cluster.billing.ledger import total_cost
from runspec.run import RunSpec
from training.evaluation.scores import Score, score
from training.run.pipeline import Finished, receipt_of
from tuning.choice import Candidate, choose
from tuning.chosen_file import render
from tuning.records import Ended, SearchFolder, SearchRecord, SearchResult, TrialFolder, TrialLine
from tuning.space import Trial


def conclude(
    folder: SearchFolder, spec: RunSpec, trials: list[Trial], ended: Ended, budget_usd: float | None
) -> SearchResult | None:
    """Choose among the measured trials; write the result, their receipts and the chosen run file.

    Returns:
        None where no trial was measured.
    """
    metric = spec.gate.metric
    lines = [_line(folder.trial_folder(trial.number), spec, trial) for trial in trials]
    measured = [line for line in lines if line.score is not None]
    if not measured:
        return None
    candidates = []
    for line in measured:
        trial = folder.trial_folder(line.number)
        receipt_of(trial, Finished(trial.result.read(), trial.training.read(), None))
        candidates.append(Candidate(line.number, line.rank, trial.after.read().tuned.metrics[metric], line.mean_kl))
    choice = choose(candidates, metric, max_drift=spec.gate.max_drift, seed=spec.seed)
    number = 1 + max(folder.results(), default=0)
    result = SearchResult(
        search=folder.run_id,
        metric=metric,
        ended=ended,
        trials=lines,
        **vars(choice),
        base_score=score(metric, folder.before.read().base.metrics[metric], seed=spec.seed).mean,
        cost_usd=total_cost(folder.ledger.attempts()).usd + sum(line.cost_usd for line in lines),
        budget_usd=budget_usd,
        run_file=folder.run_file_path(number),
    )
    record = folder.search.read()
    text = render(record, trials[choice.chosen], _head_of(result, record), absolute=True)
    folder.store.create(result.run_file, text.encode())
    folder.result_of(number).write(result)
    return result


def chosen_run_file(result: SearchResult, record: SearchRecord, trials: list[Trial]) -> str:
    """The chosen run file for the folder of the search's run file: relative paths stay relative."""
    return render(record, trials[result.chosen], _head_of(result, record))


def _head_of(result: SearchResult, record: SearchRecord) -> list[str]:
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
    return "-" if found is None else f"{found.mean:.3f} (95 % interval {found.low:.3f} to {found.high:.3f})"


def _line(folder: TrialFolder, spec: RunSpec, trial: Trial) -> TrialLine:
    attempts = folder.ledger.attempts()
    curve, result = folder.curve.read_if_there(), folder.result.read_if_there()
    return TrialLine(
        number=trial.number,
        run_id=folder.run_id,
        rank=trial.rank,
        alpha=trial.alpha,
        learning_rate=trial.learning_rate,
        outcome="finished" if result else attempts[-1].outcome if attempts else "not started",
        reason=attempts[-1].reason if attempts and result is None else "",
        step=max((attempt.step for attempt in attempts), default=0),
        holdout_loss=curve.losses[-1] if curve and curve.losses else None,
        score=result.tuned[spec.gate.metric] if result else None,
        mean_kl=result.drift.mean_kl if result and result.drift else None,
        passed=result.verdict.passed if result else None,
        cost_usd=total_cost(attempts).usd,
    )
