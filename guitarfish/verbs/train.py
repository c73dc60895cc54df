"""`guitarfish train`: train, measure and publish an adapter from a run file, and print its receipt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster.store.runs import find_run
from cluster.store.storage import Store, open_store
from guitarfish.actions.running import begin_training, drive_with_view, prepare
from guitarfish.show.receipt import show_receipt
from guitarfish.show.rendering import note, print_json
from guitarfish.verbs.options import DEFAULT_STORE, AsJson, Budget, Overrides, RunFileOrNone, StoreUri, check_budget
from guitarfish.verbs.report import keep_report
from runspec.errors import GateError, UserError
from runspec.load import load_run, resolved
from training.curation.curated import store_curated
from training.run.run_folder import TrainingFolder
from tuning.records import SearchFolder


def train(
    run_file: RunFileOrNone = None,
    set_: Overrides = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN", help="Resume this run where it stopped.")
    ] = None,
    budget: Budget = None,
    store: StoreUri = DEFAULT_STORE,
    json: AsJson = False,
) -> None:
    """Train, measure before and after, publish if the gate is passed, and print the receipt.

    A run that reaches its budget stops with a checkpoint; --resume RUN --budget USD continues it with more.
    """
    check_budget(budget)
    if resume is None:
        folder = _begin(run_file, set_, budget)
    else:
        refuse_changes("run", resume, run_file, set_)
        folder = _continue(resume, open_store(store))
    note(f"run {folder.run_id}")
    receipt = folder.receipt.read_if_there()
    if receipt is None:
        from training.run.pipeline import receipt_of, run_stages  # imports torch

        receipt = receipt_of(folder, drive_with_view(folder, run_stages, budget_usd=budget))
    else:
        note("it has already finished: nothing is left to do")
    if place := keep_report(folder.store, folder.run_id):
        receipt = receipt.model_copy(update={"places": receipt.places | {"report": place}})
    if json:
        print_json(receipt)
    else:
        show_receipt(receipt)
    verdict = receipt.evaluation.verdict
    if not verdict.passed:
        raise GateError(
            "The gate was not passed; the adapter is kept with its run, not published.",
            where=receipt.places["adapter"],
            fix=" ".join(verdict.reasons),
        )


def _begin(run_file: Path | None, overrides: list[str] | None, budget: float | None) -> TrainingFolder:
    if run_file is None:
        fix = "Use `guitarfish train RUN.yaml` or `guitarfish train --resume RUN`."
        raise UserError("No run file was given.", fix=fix)
    asked = [] if budget is None else [f"budget.max_usd={budget}"]
    return begin_training(resolved(load_run(run_file, [*(overrides or []), *asked])))


def refuse_changes(what: str, resume: str, run_file: Path | None, overrides: list[str] | None) -> None:
    """Raise UserError where a run file or overrides are given with `--resume`: a run keeps what it started with.

    Args:
        what: is resumed: run or search.
    """
    if run_file is not None:
        raise UserError(
            f"A run file cannot be given with --resume: the {what} keeps the one it started with.",
            where=f"{run_file} --resume {resume}",
            fix=f"Remove {run_file} to resume, and name the {what}'s store with --store; or remove --resume to "
            f"start a new {what}.",
        )
    if overrides:
        raise UserError(
            f"--set cannot change a {what} that has started.",
            where=f"--set {overrides[0]}",
            fix=f"Start a new {what} with it. Only --budget can be given.",
        )


def _continue(run: str, store: Store) -> TrainingFolder:
    folder = resumable(store, find_run(store, run))
    if not folder.data.exists():  # its driver was killed before the data was there
        store_curated(folder, prepare(folder.spec.read()))
    return folder


def resumable(store: Store, run_id: str) -> TrainingFolder:
    """The folder of a run that training can go on with, with all its records read.

    Raises:
        UserError: it is a search or one of its trials, whose data is in the search's folder.
        StoreError: one of its records is damaged.
    """
    folder = SearchFolder(store, run_id)
    trial = folder.trial.read_if_there()
    if trial is not None or folder.search.exists():
        search = trial.search if trial else run_id
        what = f"{run_id} is a trial of the search {search}." if trial else f"{run_id} is a search."
        raise UserError(what, where=folder.where, fix=f"Use `guitarfish tune --resume {search}`.")
    folder.read_all()
    return folder
