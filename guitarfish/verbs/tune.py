"""`guitarfish tune`: search ranks and learning rates, and choose the smallest rank that is good enough."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cluster.billing.prices import price_of
from cluster.machine.hardware import detect
from cluster.store.runs import find_run
from cluster.store.storage import Store, open_store
from guitarfish.actions.running import look_at_run, put_run
from guitarfish.show.live import LiveView
from guitarfish.show.rendering import dollars, note, print_facts, print_json, say
from guitarfish.show.search_view import SearchView, show_result
from guitarfish.verbs.options import DEFAULT_STORE, AsJson, Budget, Overrides, RunFileOrNone, StoreUri, check_budget
from guitarfish.verbs.train import refuse_changes
from runspec.errors import BudgetError, SpecError, StoreError, UserError
from runspec.load import LoadedRun, load_run, resolved
from tuning.progress import TrialState
from tuning.records import SearchFolder, SearchRecord, SearchResult
from tuning.slots import trial_strategy
from tuning.space import trial_spec, trials_of


def tune(
    run_file: RunFileOrNone = None,
    set_: Overrides = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="SEARCH", help="Resume this search; finished trials are kept.")
    ] = None,
    budget: Budget = None,
    store: StoreUri = DEFAULT_STORE,
    json: AsJson = False,
) -> None:
    """Try the ranks and learning rates under `tuning` in the run file, and write a run file with the best small rank.

    Each trial is a run in the store; data, tokens and the base model's scores are prepared once. Trials that fall
    behind are stopped early (ASHA). The smallest rank is chosen that does not differ from the best beyond chance.
    """
    check_budget(budget)
    if resume is None:
        folder = _begin(run_file, set_)
    else:
        refuse_changes("search", resume, run_file, set_)
        folder = _continue(resume, open_store(store))
    note(f"search {folder.run_id}")
    result = _drive(folder, budget)
    beside = _write_beside(folder, result)
    if json:
        print_json(result)
    else:
        _show(folder, result, beside)
    if result.ended == "budget":
        raise BudgetError(
            f"The budget of {dollars(result.budget_usd)} ended the search before all trials had run; "
            "the choice is among those that did.",
            where="tuning.budget_usd",
            fix=f"Run the others with `guitarfish tune --resume {folder.run_id} --budget {2 * result.cost_usd:.2g}`.",
        )


def _begin(run_file: Path | None, overrides: list[str] | None) -> SearchFolder:
    """Put a new search into the store."""
    if run_file is None:
        fix = "Use `guitarfish tune RUN.yaml` or `guitarfish tune --resume SEARCH`."
        raise UserError("No run file was given.", fix=fix)
    loaded = load_run(run_file, overrides or ())
    _check(loaded)
    folder = put_run(look_at_run(resolved(loaded), None), "search", SearchFolder)
    folder.search.write(
        SearchRecord(
            run_file=str(loaded.path),
            folder=str(loaded.folder),
            written=loaded.spec.model_dump(mode="json", exclude_unset=True),
            text=loaded.text,
        )
    )
    return folder


def _check(loaded: LoadedRun) -> None:
    """What can be wrong with a search before the data is read."""
    if loaded.spec.tuning is None:
        raise SpecError(
            "The run file has no `tuning` section, so there is nothing to search.",
            where=str(loaded.path),
            fix="Add one, as in tuning: {ranks: [4, 8, 16], learning_rates: {kind: list, values: [2e-4, 5e-4]}}.",
        )
    trial_strategy(loaded.spec)
    for trial in trials_of(loaded.spec):
        trial_spec(loaded.spec, trial)


def _continue(search: str, store: Store) -> SearchFolder:
    folder = SearchFolder(store, find_run(store, search))
    if not folder.search.exists():
        fix = f"Use `guitarfish train --resume {folder.run_id}`."
        raise StoreError(f"Run {folder.run_id} is not a search.", where=folder.search.where, fix=fix)
    folder.read_all()
    for trial in trials_of(folder.spec.read()):
        folder.trial_folder(trial.number).read_all()
    return folder


def _drive(folder: SearchFolder, budget: float | None) -> SearchResult:
    from tuning.driver import Views, drive_search  # imports ray and torch

    spec, hardware = folder.spec.read(), detect()
    tuning_budget = spec.tuning.budget_usd if spec.tuning else None
    budget_usd = budget if budget is not None else tuning_budget
    price = price_of(hardware, spec.hardware.workers, spec.hardware.price_usd_per_hour)
    console = Console(stderr=True, highlight=False)
    with SearchView(console, budget_usd) as trials, LiveView(console, price.usd_per_hour) as base:

        def show(states: list[TrialState], spent_usd: float) -> None:
            base.close()  # the base model was measured: one live display at a time
            trials.show(states, spent_usd)

        return drive_search(
            folder,
            spec,
            hardware=hardware,
            price=price,
            budget_usd=budget_usd,
            views=Views(base.handle, show),
        )


def _write_beside(folder: SearchFolder, result: SearchResult) -> tuple[Path, bool]:
    """Write the chosen run file next to the one the search started from, unless something is there.

    Returns:
        Its path, and whether it was written now.
    """
    from tuning.result import chosen_run_file  # imports torch

    record = folder.search.read()
    run_file = Path(record.run_file)
    target = run_file.with_name(f"{run_file.stem}-tuned.yaml")
    if target.exists() or not target.parent.is_dir():
        return target, False
    try:
        target.write_text(chosen_run_file(result, record, trials_of(folder.spec.read())), encoding="utf-8")
    except OSError:  # the folder may be read-only: the store has it all the same
        return target, False
    return target, True


def _show(folder: SearchFolder, result: SearchResult, beside: tuple[Path, bool]) -> None:
    show_result(result)
    say("")
    target, written = beside
    chosen = result.trials[result.chosen]
    there = str(target) if written else f"not written: {target} already exists, or its folder cannot be written to"
    print_facts(
        {
            "run file": f"{folder.store.uri}/{result.run_file}",
            "next to yours": there,
            "to publish the trial": f"guitarfish adapters publish --run {chosen.run_id}",
        }
    )
