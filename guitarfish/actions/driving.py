"""What `train` and `evaluate` share: a new run in the store, and a run driven under the live view."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from guitarfish.show.rendering import duration, note, size, warn
from runspec.errors import BudgetError, InterruptedRunError, RunFailedError

if TYPE_CHECKING:
    from cluster.billing.prices import Price
    from cluster.machine.hardware import Hardware
    from cluster.machine.session import Session
    from cluster.store.runs import RunKind
    from cluster.store.storage import Store
    from runspec.run import RunSpec
    from training.curation.curate import Curated
    from training.data.example import Example
    from training.planning.planner import Row
    from training.planning.prediction import Prediction
    from training.planning.sites import Site
    from training.run.pipeline import Run

Result = TypeVar("Result")
SUFFIXES: dict[RunKind, str] = {"train": "", "evaluate": "-eval", "pairs": "-pairs", "search": "-tune"}
"""What is put behind the run file's name in a run's id, for people to read."""


@dataclass(frozen=True)
class ReadyRun:
    """A run that was looked at and can begin; nothing of it is in the store yet.

    Attributes:
        spec: resolved.
        store: of the run file.
        curated: its rows.
        prediction: None where it was not planned, or nobody could say.
    """

    spec: RunSpec
    store: Store
    curated: Curated
    prediction: Prediction | None


def begin_run(
    run_file: Path, overrides: list[str] | None, *, kind: RunKind = "train", plan: bool = False
) -> tuple[str, RunSpec, Store]:
    """Read a run file and put a new run into its store.

    Args:
        kind: what the run does.
        plan: the run will train: see that it fits, and keep what is predicted.

    Raises:
        UserError: the run file, the store, the data or the base model cannot be used.
        BudgetError: the run's budget is below what the plan says.
    """
    from cluster.machine.session import on_a_cluster
    from cluster.store.storage import open_store
    from runspec.load import load_run, resolved
    from training.run.budget import budget_of, check_price

    spec = resolved(load_run(run_file, overrides or ()))
    if plan and not on_a_cluster():  # there its workers' price is known once it is connected to
        check_price(budget_of(spec.budget, ()), _price_here(spec))
    open_store(spec.store).check()
    ready = look_at_run(spec, predict_run if plan else None)
    return put_run(ready, kind=kind), ready.spec, ready.store


def look_at_run(
    spec: RunSpec,
    predict: Callable[[RunSpec, list[Example]], Prediction | None] | None,
    *,
    here: bool | None = None,
) -> ReadyRun:
    """Read a run's data and look at its base model; nothing is written.

    Args:
        spec: resolved.
        predict: what the run will need, from its spec and the rows to train on.
        here: the workers are on this machine; None: unless RAY_ADDRESS names a cluster.

    Raises:
        UserError: the data or the base model cannot be used.
        BudgetError: the run's budget is below what the plan says.
    """
    from cluster.store.storage import open_store
    from training.run.preparation import pin_start

    store = open_store(spec.store)
    spec = pin_start(spec, store)
    curated = prepare(spec, here=here)
    prediction = predict(spec, curated.train) if predict else None
    if prediction is not None:
        _check_budget(spec, prediction.row)
    return ReadyRun(spec, store, curated, prediction)


def put_run(ready: ReadyRun, *, kind: RunKind = "train") -> str:
    """Put a run into its store: all that its driver needs, on whatever machine. Raises StoreError.

    Args:
        kind: what the run does.

    Returns:
        Its id.
    """
    from cluster.store.runs import KindRecord, new_run_id
    from training.curation.curated import store_curated
    from training.planning.prediction import store_prediction

    run_id = new_run_id(f"{ready.spec.name}{SUFFIXES[kind]}")
    ready.store.create(f"runs/{run_id}/spec.json", ready.spec.model_dump_json(indent=1).encode())
    ready.store.create(f"runs/{run_id}/kind.json", KindRecord(kind=kind).model_dump_json().encode())
    if ready.prediction is not None:
        store_prediction(ready.store, run_id, ready.prediction)
    store_curated(ready.store, run_id, ready.curated)
    return run_id


def predict_run(spec: RunSpec, examples: list[Example], site: Site | None = None) -> Prediction | None:
    """What the run will need, on this machine unless a site says where; None where nobody can say, and then why."""
    from cluster.machine.hardware import detect
    from training.planning.prediction import predict
    from training.planning.speed import FASTER, SLOWER

    prediction, why_not = predict(spec, detect(), examples=examples, site=site)
    if prediction is None:
        note(f"no plan: {why_not}")
        return None
    row = prediction.row
    low, high = FASTER * (row.hours or 0), SLOWER * (row.hours or 0)
    time = f", {duration(low * 3600)} to {duration(high * 3600)}" if row.hours is not None else ""
    note(f"plan: {row.name} on {row.hardware}, {size(row.worker_bytes)} a worker{time}")
    return prediction


def _check_budget(spec: RunSpec, row: Row) -> None:
    """Lay the budget of a new run beside what is predicted; says so where it may not be enough.

    Raises:
        BudgetError: it is not.
    """
    from training.planning.speed import FASTER, SLOWER
    from training.run.budget import budget_of, check_plan

    if row.usd is not None and (warning := check_plan(budget_of(spec.budget, ()), row.usd, FASTER, SLOWER)):
        warn(warning)


@contextmanager
def given_again() -> Iterator[None]:
    """Around a run that only measures: nothing of it is resumed, the command is given again."""
    try:
        yield
    except InterruptedRunError as error:
        raise InterruptedRunError("Stopped as you asked.", fix="Give the command again: it begins anew.") from error
    except BudgetError as error:
        fix = "Give the command again with a larger budget, as in --set budget.max_usd=2; it begins anew."
        raise BudgetError(error.what, where=error.where, fix=fix) from error
    except RunFailedError as error:
        fix = "Mend the cause, then give the command again."
        raise RunFailedError(error.what, where=error.where, fix=fix) from error


def folder_of(adapter: str, spec: RunSpec) -> str:
    """The folder of a registry's adapter, below the root of the run file's store; says which version it is.

    Raises:
        RegistryError, StoreError: there is no such adapter.
    """
    from cluster.store.storage import open_store
    from registry.adapters import Registry

    found = Registry(open_store(spec.store)).resolve(adapter)
    note(f"{adapter} is version {found.version} of {found.name}")
    return f"adapters/{found.name}/versions/{found.version}"


def prepare(spec: RunSpec, *, here: bool | None = None) -> Curated:
    """Read the data and look at the base model: what is wrong is said before a worker starts.

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
    """Their progress bars and warnings are not for the terminal."""
    import logging

    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.captureWarnings(True)


def drive_with_view(
    run_id: str, spec: RunSpec, store: Store, stages: Callable[[Run], Result], *, budget_usd: float | None = None
) -> Result:
    """Drive a run with the live view on stderr; see `training.run.driver.drive`.

    Args:
        budget_usd: what the command line names, in place of the budget that the run has.

    Raises:
        BudgetError: the budget is spent, before anything starts or on the way.
    """
    from rich.console import Console

    from cluster.billing.ledger import Ledger
    from cluster.machine.hardware import detect
    from cluster.machine.session import connect, on_a_cluster
    from cluster.store.runs import RunFolder
    from guitarfish.show.live import LiveView
    from training.run.budget import budget_of, check_left, check_price
    from training.run.driver import drive

    hardware, budget = detect(), budget_of(spec.budget, Ledger(store, run_id).attempts(), budget_usd)
    if not store.exists(RunFolder(store, run_id).receipt):  # of a finished run nothing is left to pay
        check_left(budget, run_id)
    with connect() if on_a_cluster() else nullcontext() as session:
        price = _price(run_id, spec, store, hardware, session)
        check_price(budget, price)
        with LiveView(Console(stderr=True, highlight=False), price.usd_per_hour, budget) as view:
            return drive(
                run_id,
                spec,
                store,
                stages,
                hardware=hardware,
                price=price,
                show=view.handle,
                session=session,
                budget=budget,
            )


def _price(run_id: str, spec: RunSpec, store: Store, hardware: Hardware, session: Session | None) -> Price:
    """What an hour of the run costs: of this machine, or of the workers on the cluster that this is connected to."""
    from cluster.billing.prices import price_on_cluster
    from training.planning.prediction import planned_price, read_prediction, strategy_of
    from training.strategies.strategy import load_strategy

    price = _price_here(spec)
    if session is None:
        return price
    placement = load_strategy(strategy_of(spec, store, run_id, hardware)).place(spec.hardware, session)
    return price_on_cluster(
        spec.hardware.price_usd_per_hour,
        planned_price(read_prediction(store, run_id)),
        session,
        workers=placement.workers,
        gpus_per_worker=placement.gpus_per_worker,
        cpus_per_worker=placement.cpus_per_worker,
        this_machine=price,
    )


def _price_here(spec: RunSpec) -> Price:
    """Of the run's workers, on machines like this one."""
    from cluster.billing.prices import price_of
    from cluster.machine.hardware import detect

    gpus = spec.hardware.workers * spec.hardware.gpus_per_worker
    return price_of(detect(), gpus, spec.hardware.price_usd_per_hour)
