"""What the verbs that start runs share: a new run in the store, and a run driven under the live view."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

from cluster.billing.prices import Price, price_of, price_on_cluster
from cluster.machine.hardware import detect
from cluster.machine.session import connect, on_a_cluster
from cluster.store.runs import KindRecord, RunKind, new_run_id
from cluster.store.storage import Store, open_store
from guitarfish.show.live import LiveView
from guitarfish.show.rendering import duration, note, size, warn
from registry.adapters import Registry
from runspec.errors import BudgetError, InterruptedRunError, RunFailedError
from runspec.run import RunSpec
from training.curation.curate import Curated
from training.curation.curated import store_curated
from training.data.example import Example
from training.planning.planner import Row
from training.planning.prediction import Prediction, planned_price, predict, strategy_of
from training.planning.sites import Site
from training.planning.speed import FASTER, SLOWER
from training.run.budget import budget_of, check_left, check_plan, check_price
from training.run.run_folder import TrainingFolder
from training.strategies.strategy import load_strategy

if TYPE_CHECKING:
    from training.run.pipeline import Run  # imports torch, which what is wrong with a command line need not wait for

Result = TypeVar("Result")
Folder = TypeVar("Folder", bound=TrainingFolder)
SUFFIXES: dict[RunKind, str] = {"train": "", "evaluate": "-eval", "pairs": "-pairs", "search": "-tune"}
"""What follows the run file's name in a run's id, for people to read."""


@dataclass(frozen=True)
class ReadyRun:
    """A run that was checked and can begin; nothing of it is in the store yet.

    Attributes:
        spec: resolved.
        store: of the run file.
        curated: its rows.
        prediction: None where it was not planned, or cannot be.
    """

    spec: RunSpec
    store: Store
    curated: Curated
    prediction: Prediction | None


def look_at_run(
    spec: RunSpec,
    predict: Callable[[RunSpec, list[Example]], Prediction | None] | None,
    *,
    here: bool | None = None,
    dry_run: bool = False,
) -> ReadyRun:
    """Read a run's data and look at its base model; no run is written.

    Args:
        spec: resolved.
        predict: what the run will need, from its spec and the rows to train on.
        here: the workers are on this machine; None: unless RAY_ADDRESS names a cluster.
        dry_run: the store need not be writable, and nothing is written to find out.

    Raises:
        UserError: the store, the data or the base model cannot be used.
        BudgetError: the run's budget is below what the plan says.
    """
    from training.run.preparation import pin_start

    store = open_store(spec.store)
    if not dry_run:
        store.check()
    spec = pin_start(spec, store)
    curated = prepare(spec, here=here)
    prediction = predict(spec, curated.train) if predict else None
    if prediction is not None:
        _check_budget(spec, prediction.row)
    return ReadyRun(spec, store, curated, prediction)


def put_run(ready: ReadyRun, kind: RunKind, folder_type: type[Folder]) -> Folder:
    """Put a run into its store: all that its driver needs, on whatever machine. Raises StoreError."""
    folder = folder_type(ready.store, new_run_id(f"{ready.spec.name}{SUFFIXES[kind]}"))
    folder.spec.write(ready.spec)
    folder.kind.write(KindRecord(kind=kind))
    if ready.prediction is not None:
        folder.prediction.write(ready.prediction)
    store_curated(folder, ready.curated)
    return folder


def begin_training(spec: RunSpec) -> TrainingFolder:
    """Check and plan a run that will train, and put it into its store.

    Args:
        spec: resolved.

    Raises:
        UserError: the store, the data or the base model cannot be used.
        BudgetError: the run's budget is below what the plan says.
    """
    if not on_a_cluster():  # there its workers' price is known once it is connected to
        check_price(budget_of(spec.budget, ()), _price_here(spec))
    return put_run(look_at_run(spec, predict_run), "train", TrainingFolder)


def predict_run(spec: RunSpec, examples: list[Example], site: Site | None = None) -> Prediction | None:
    """What the run will need, on this machine unless a site says where; None where that is not known, and notes why."""
    prediction, why_not = predict(spec, detect(), examples=examples, site=site)
    if prediction is None:
        note(f"no plan: {why_not}")
        return None
    row = prediction.row
    low, high = FASTER * (row.hours or 0), SLOWER * (row.hours or 0)
    time = f", {duration(low * 3600)} to {duration(high * 3600)}" if row.hours is not None else ""
    note(f"plan: {row.name} on {row.hardware}, {size(row.worker_bytes)} per worker{time}")
    return prediction


def _check_budget(spec: RunSpec, row: Row) -> None:
    """Compare a new run's budget with the plan; warns where it may fall short, raises BudgetError where it does."""
    if row.usd is not None and (warning := check_plan(budget_of(spec.budget, ()), row.usd, FASTER, SLOWER)):
        warn(warning)


@contextmanager
def given_again() -> Iterator[None]:
    """Around a run that only measures: it is not resumed, the command is run again."""
    try:
        yield
    except InterruptedRunError as error:
        raise InterruptedRunError(
            "Stopped as requested.", fix="Run the command again; it starts from the beginning."
        ) from error
    except BudgetError as error:
        fix = "Run the command again with a larger budget, as in --set budget.max_usd=2; it starts from the beginning."
        raise BudgetError(error.what, where=error.where, fix=fix) from error
    except RunFailedError as error:
        fix = "Fix the cause, then run the command again."
        raise RunFailedError(error.what, where=error.where, fix=fix) from error


def folder_of(adapter: str, spec: RunSpec) -> str:
    """The folder of a registry's adapter, below the root of the run file's store; says which version it is.

    Raises:
        RegistryError, StoreError: the adapter is not found.
    """
    found = Registry(open_store(spec.store)).resolve(adapter)
    note(f"{adapter} is version {found.version} of {found.name}")
    return found.folder


def prepare(spec: RunSpec, *, here: bool | None = None) -> Curated:
    """Read the data and look at the base model, so that errors are found before a worker starts.

    Args:
        here: the workers are on this machine; None: unless RAY_ADDRESS names a cluster.

    Raises:
        UserError: the first thing that is wrong.
    """
    from training.run.preparation import look_at_model, prepare_data

    note("reading the data and looking at the base model ...")
    quiet_libraries()
    curated = prepare_data(spec, Path())
    look_at_model(spec, Path(), curated.train, here=here)
    return curated


def quiet_libraries() -> None:
    """Keep libraries' progress bars and warnings off the terminal."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.captureWarnings(True)


def drive_with_view(
    folder: TrainingFolder, stages: Callable[[Run], Result], *, budget_usd: float | None = None
) -> Result:
    """Drive a run with the live view on stderr; see `training.run.driver.drive`.

    Args:
        budget_usd: what the command line names, instead of the budget that the run has.

    Raises:
        BudgetError: the budget is spent, before anything starts or on the way.
    """
    from training.run.driver import drive

    spec, prediction, hardware = folder.spec.read(), folder.prediction.read_if_there(), detect()
    budget = budget_of(spec.budget, folder.ledger.attempts(), budget_usd)
    check_left(budget, folder.run_id)
    strategy = strategy_of(spec, prediction, hardware)
    with connect() if on_a_cluster() else nullcontext() as session:
        price = _price_here(spec)
        if session is not None:
            placement = load_strategy(strategy).place(spec.hardware, session)
            price = price_on_cluster(
                spec.hardware.price_usd_per_hour,
                planned_price(prediction),
                session,
                workers=placement.workers,
                gpus_per_worker=placement.gpus_per_worker,
                cpus_per_worker=placement.cpus_per_worker,
                this_machine=price,
            )
        check_price(budget, price)
        with LiveView(Console(stderr=True, highlight=False), price.usd_per_hour, budget) as view:
            return drive(
                folder,
                spec,
                strategy,
                stages,
                hardware=hardware,
                price=price,
                show=view.handle,
                session=session,
                budget=budget,
            )


def _price_here(spec: RunSpec) -> Price:
    """Of the run's workers, on machines like this one."""
    gpus = spec.hardware.workers * spec.hardware.gpus_per_worker
    return price_of(detect(), gpus, spec.hardware.price_usd_per_hour)
