"""Reports of a search and of its trials, whose rows and base scores lie in the search's folder."""

from __future__ import annotations

from collections.abc import Callable

from support.report_pages import Page
from support.stored_runs import StoredRun

from guitarfish.report.gather import gather
from guitarfish.report.page import render
from training.evaluation.results import summarise
from training.evaluation.scores import Score, score
from training.run.results import TrialRecord
from tuning.records import SearchRecord, SearchResult, TrialLine

Make = Callable[..., StoredRun]
SEARCH = "homes-tune-20261124-120000-abcd"


def page_of(run: StoredRun, run_id: str) -> Page:
    page = Page(render(gather(run.store, run_id)))
    assert page.dangers() == []
    return page


def line(number: int, found: Score | None, outcome: str = "finished", reason: str = "") -> TrialLine:
    return TrialLine(
        number=number,
        run_id=f"{SEARCH}-t{number:02d}",
        rank=4 * 2**number,
        alpha=8,
        learning_rate=2e-4,
        outcome=outcome,
        reason=reason,
        step=40,
        holdout_loss=0.7 if found else None,
        score=found,
        mean_kl=0.1 if found else None,
        passed=True if found else None,
        cost_usd=0.05,
    )


def search(make: Make) -> StoredRun:
    run = make(SEARCH).begin(plan=False, kind="search")
    run.write("search.json", SearchRecord(run_file="/x/run.yaml", folder="/x", written={}))
    run.attempt(starting=10.0, evaluating=30.0)
    return run.measured_before()


def test_a_search_shows_its_trials_and_the_choice(make: Make) -> None:
    run = search(make)
    lines = [line(0, score("exact_match", [1.0] * 20 + [0.0])), line(1, None, "failed", "CUDA out of <memory>")]
    result = SearchResult(
        search=SEARCH, metric="exact_match", ended="budget", trials=lines, chosen=0, best=0, equals=[0], too_far=[],
        base_score=0.0, cost_usd=0.2, budget_usd=0.3, run_file="runs/x/tuned-1.yaml",
    )  # fmt: skip
    run.write("result-2.json", result.model_copy(update={"ended": "done"}))
    run.write("result-10.json", result)
    page = page_of(run, SEARCH)
    assert "Chosen: rank 4, lr 0.0002, the best; no smaller rank is as good." in page.text
    assert "The budget ended the search before all trials were run." in page.text
    assert "chosen" in page.section("trials")
    assert "CUDA out of <memory>" in page.section("trials")
    assert "Measured trials, with 95 % intervals" in page.section("trials")
    assert "The trials have the curves" in page.section("curves")
    assert "guitarfish adapters publish --run homes-tune-20261124-120000-abcd-t00" in page.text


def test_a_search_that_has_not_ended_counts_its_trials(make: Make) -> None:
    run = search(make)
    trial = make(f"{SEARCH}-t00")
    trial.attempt("pruned", training=1000.0)
    page = page_of(run, SEARCH)
    assert "The search has not made a choice yet." in page.text
    assert "$1.04" in page.section("cost")
    assert "Only the untuned model was measured." in page.section("scores")


def test_a_trial_takes_rows_and_base_scores_from_its_search(make: Make) -> None:
    whole = search(make)
    trial = make(f"{SEARCH}-t03")
    trial.spec = whole.spec
    trial.write("spec.json", whole.spec)
    record = TrialRecord(search=SEARCH, number=3, rank=8, alpha=16, learning_rate=2e-4)
    trial.write("trial.json", record)
    trial.attempt()
    trial.trained()
    page = page_of(trial, trial.run_id)
    assert "tune --resume homes-tune-20261124-120000-abcd" in page.text
    after = whole.measure(lambda row: row.reference, 0.5)
    before = whole.before
    trial.write("evaluation/result.json", summarise(before.base, before.few_shot, after, None, whole.spec.gate))
    page = page_of(trial, trial.run_id)
    assert f"Trial 3 of the search {SEARCH} passes the gate; trials are not published." in page.text
    assert "held out" in page.section("data")
    assert "Drift was not measured" in page.section("scores")
