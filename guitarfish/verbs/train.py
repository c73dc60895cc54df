"""`guitarfish train`: a run file in, a trained, measured and published adapter and a receipt out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guitarfish.show.rendering import note, print_json
from guitarfish.verbs.options import DEFAULT_STORE, AsJson, BudgetUsd, Overrides, StoreUri, check_budget
from runspec.errors import GateError, UserError

if TYPE_CHECKING:
    from cluster.store.storage import Store
    from runspec.run import RunSpec
    from training.run.receipt import Receipt


def train(
    run_file: Annotated[
        Path | None, typer.Argument(help="The run file.", metavar="RUN.yaml", show_default=False)
    ] = None,
    set_: Overrides = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN", help="Continue this run where it stopped.")
    ] = None,
    budget: BudgetUsd = None,
    store: StoreUri = DEFAULT_STORE,
    json: AsJson = False,
) -> None:
    """Train, measure before and after, publish if the gate is passed, and print the receipt.

    A run that reaches its budget stops with a checkpoint; --resume RUN --budget USD goes on with more.
    """
    check_budget(budget)
    run_id, spec, opened = _continue(resume, store, run_file, set_) if resume else _begin(run_file, set_, budget)
    note(f"run {run_id}")
    receipt = _drive(run_id, spec, opened, budget)
    if json:
        print_json(receipt)
    else:
        from guitarfish.show.receipt import show_receipt

        show_receipt(receipt)
    verdict = receipt.evaluation.verdict
    if not verdict.passed:
        raise GateError(
            "The gate was not passed; the adapter is kept with its run, not published.",
            where=receipt.places["adapter"],
            fix=" ".join(verdict.reasons),
        )


def _begin(run_file: Path | None, overrides: list[str] | None, budget: float | None) -> tuple[str, RunSpec, Store]:
    from guitarfish.actions.driving import begin_run

    if run_file is None:
        raise UserError("No run file was named.", fix="guitarfish train RUN.yaml, or guitarfish train --resume RUN")
    asked = [] if budget is None else [f"budget.max_usd={budget}"]
    return begin_run(run_file, [*(overrides or []), *asked], plan=True)


def _continue(
    run_id: str, store_uri: str, run_file: Path | None, overrides: list[str] | None
) -> tuple[str, RunSpec, Store]:
    from cluster.store.runs import find_run
    from cluster.store.storage import open_store
    from guitarfish.actions.driving import prepare
    from runspec.run import RunSpec
    from training.curation.curated import SUMMARY, store_curated

    if overrides:
        raise UserError(
            "--set cannot change a run that has begun.",
            where=f"--set {overrides[0]}",
            fix="Start a new run with it; --budget can be given.",
        )
    if run_file is not None:
        from runspec.load import load_run, resolved

        store_uri = resolved(load_run(run_file)).store
    store = open_store(store_uri)
    run_id = find_run(store, run_id)
    refuse_search(store, run_id)
    spec = RunSpec.model_validate_json(store.read(f"runs/{run_id}/spec.json"))
    if not store.exists(f"runs/{run_id}/{SUMMARY}"):  # its driver was killed before the data was there
        store_curated(store, run_id, prepare(spec))
    return run_id, spec, store


def refuse_search(store: Store, run_id: str) -> None:
    """A search goes on with `guitarfish tune`, and its trials with it: their data lies in the search's folder."""
    from training.curation.curated import data_run_of

    search = data_run_of(store, run_id)
    if search != run_id or store.exists(f"runs/{run_id}/search.json"):
        what = f"{run_id} is a search." if search == run_id else f"{run_id} is a trial of the search {search}."
        raise UserError(what, where=f"{store.uri}/runs/{run_id}", fix=f"guitarfish tune --resume {search}")


def _drive(run_id: str, spec: RunSpec, store: Store, budget: float | None) -> Receipt:
    from guitarfish.actions.driving import drive_with_view
    from guitarfish.verbs.report import keep_report
    from training.run.pipeline import receipt_of, run_stages

    finished = drive_with_view(run_id, spec, store, run_stages, budget_usd=budget)
    receipt = receipt_of(store, run_id, finished)
    place = keep_report(store, run_id)
    return receipt.model_copy(update={"places": receipt.places | ({"report": place} if place else {})})
