"""`guitarfish tune`: a run file with ranks and learning rates in, the smallest rank that is good enough out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guitarfish.show.rendering import dollars, note, print_facts, print_json, say
from guitarfish.verbs.options import DEFAULT_STORE, AsJson, BudgetUsd, Overrides, StoreUri, check_budget
from runspec.errors import BudgetError, SpecError, UserError

if TYPE_CHECKING:
    from cluster.store.storage import Store
    from runspec.load import LoadedRun
    from runspec.run import RunSpec
    from tuning.progress import TrialState
    from tuning.records import SearchResult


@dataclass(frozen=True)
class _Begun:
    """A search whose data and whose search.json are in the store."""

    search_id: str
    spec: RunSpec
    store: Store


def tune(
    run_file: Annotated[
        Path | None, typer.Argument(help="The run file.", metavar="RUN.yaml", show_default=False)
    ] = None,
    set_: Overrides = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="SEARCH", help="Continue this search: trials that ended stay.")
    ] = None,
    budget: BudgetUsd = None,
    store: StoreUri = DEFAULT_STORE,
    json: AsJson = False,
) -> None:
    """Try the ranks and learning rates of the run file's `tuning`, and write a run file with the best small rank.

    Each trial is a run of the store. Data, tokens and the base model's scores are made once. Trials that are behind
    are stopped early (ASHA); of those that the held-out rows cannot tell from the best, the smallest rank is chosen.
    """
    check_budget(budget)
    begun = _continue(resume, store, run_file, set_) if resume else _begin(run_file, set_)
    note(f"search {begun.search_id}")
    result = _drive(begun, budget)
    beside = _write_beside(begun, result)
    if json:
        print_json(result)
    else:
        _show(begun, result, beside)
    if result.ended == "budget":
        raise BudgetError(
            f"The budget of {dollars(result.budget_usd)} ended the search before all trials were run; "
            "the choice is among those that were.",
            where="tuning.budget_usd",
            fix=f"To run the others: guitarfish tune --resume {begun.search_id} --budget {2 * result.cost_usd:.2g}",
        )


def _begin(run_file: Path | None, overrides: list[str] | None) -> _Begun:
    """Put a new search into the store: the spec, the data, what the run file says."""
    if run_file is None:
        raise UserError("No run file was named.", fix="guitarfish tune RUN.yaml, or guitarfish tune --resume SEARCH")
    from guitarfish.actions.driving import begin_run
    from runspec.load import load_run
    from tuning.records import SEARCH, SearchRecord

    loaded = load_run(run_file, overrides or ())
    _check(loaded)
    search_id, spec, store = begin_run(run_file, overrides, kind="search")
    record = SearchRecord(
        run_file=str(loaded.path),
        folder=str(loaded.folder),
        written=loaded.spec.model_dump(mode="json", exclude_unset=True),
        text=loaded.text,
    )
    store.create(f"runs/{search_id}/{SEARCH}", record.model_dump_json(indent=1).encode())
    return _Begun(search_id, spec, store)


def _check(loaded: LoadedRun) -> None:
    """What can be wrong with a search before the data is read."""
    from tuning.slots import strategy_of
    from tuning.space import trial_spec, trials_of

    if loaded.spec.tuning is None:
        raise SpecError(
            "The run file has no section `tuning`, so there is nothing to search through.",
            where=str(loaded.path),
            fix="Add, for example: tuning: {ranks: [4, 8, 16], learning_rates: {kind: list, values: [2e-4, 5e-4]}}",
        )
    strategy_of(loaded.spec)
    for trial in trials_of(loaded.spec):
        trial_spec(loaded.spec, trial)


def _continue(search: str, store_uri: str, run_file: Path | None, overrides: list[str] | None) -> _Begun:
    from cluster.store.runs import find_run
    from cluster.store.storage import open_store
    from runspec.load import load_run, resolved
    from runspec.run import RunSpec
    from tuning.records import read_search

    if overrides:
        raise UserError(
            "--set cannot change a search that has begun.",
            where=f"--set {overrides[0]}",
            fix="Start a new one with it; --budget can be given.",
        )
    if run_file is not None:
        store_uri = resolved(load_run(run_file)).store
    store = open_store(store_uri)
    search_id = find_run(store, search)
    read_search(store, search_id)
    return _Begun(search_id, RunSpec.model_validate_json(store.read(f"runs/{search_id}/spec.json")), store)


def _drive(begun: _Begun, budget: float | None) -> SearchResult:
    from rich.console import Console

    from cluster.billing.prices import price_of
    from cluster.machine.hardware import detect
    from guitarfish.show.live import LiveView
    from guitarfish.show.search_view import SearchView
    from tuning.driver import Views, drive_search

    spec, hardware = begun.spec, detect()
    assert spec.tuning is not None
    budget_usd = budget if budget is not None else spec.tuning.budget_usd
    price = price_of(hardware, spec.hardware.workers, spec.hardware.price_usd_per_hour)
    console = Console(stderr=True, highlight=False)
    with SearchView(console, budget_usd) as trials, LiveView(console, price.usd_per_hour) as base:

        def show(states: list[TrialState], spent_usd: float) -> None:
            base.close()  # the base model was measured: one live display at a time
            trials.show(states, spent_usd)

        return drive_search(
            begun.search_id,
            spec,
            begun.store,
            hardware=hardware,
            price=price,
            budget_usd=budget_usd,
            views=Views(base.handle, show),
        )


def _write_beside(begun: _Begun, result: SearchResult) -> tuple[Path, bool]:
    """Write the chosen run file next to the one the search started from, unless something is there.

    Returns:
        Where it is to lie, and whether it was written now.
    """
    from tuning.records import read_search
    from tuning.result import chosen_run_file
    from tuning.space import trials_of

    record = read_search(begun.store, begun.search_id)
    run_file = Path(record.run_file)
    target = run_file.with_name(f"{run_file.stem}-tuned.yaml")
    if target.exists() or not target.parent.is_dir():
        return target, False
    try:
        target.write_text(chosen_run_file(result, record, trials_of(begun.spec)), encoding="utf-8")
    except OSError:  # the folder may be read-only: the store has it all the same
        return target, False
    return target, True


def _show(begun: _Begun, result: SearchResult, beside: tuple[Path, bool]) -> None:
    from guitarfish.show.search_view import show_result

    show_result(result)
    say("")
    target, written = beside
    chosen = result.trials[result.chosen]
    there = str(target) if written else f"{target} was there already and is left as it is"
    print_facts(
        {
            "run file": f"{begun.store.uri}/{result.run_file}",
            "next to yours": there,
            "to publish the trial": f"guitarfish adapters publish --run {chosen.run_id}",
        }
    )
