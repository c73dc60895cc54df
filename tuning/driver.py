"""The driver of a search: measure the base model once, run the trials, choose among them, write the chosen run file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cluster.billing.ledger import Ledger, total_cost
from cluster.billing.prices import Price
from cluster.machine.hardware import Hardware
from cluster.machine.session import connect
from runspec.errors import BudgetError, InterruptedRunError, RunFailedError
from runspec.run import RunSpec
from training.run.budget import spent_out
from training.run.driver import drive
from training.run.pipeline import Run, evaluate_stages
from training.worker.job import Event
from training.worker.output import logs_folder
from tuning.progress import TrialState
from tuning.records import SearchFolder, SearchResult, runs_of
from tuning.result import conclude
from tuning.search import Closed, Search
from tuning.slots import price_of_trial, slots_of, trial_strategy
from tuning.space import trials_of
from tuning.trial import SearchJob


@dataclass(frozen=True)
class Views:
    """Where progress is shown.

    Attributes:
        base: takes events while the base model is measured.
        trials: takes the state of all trials and the dollars spent so far.
    """

    base: Callable[[Event], None]
    trials: Callable[[list[TrialState], float], None]


def drive_search(
    folder: SearchFolder,
    spec: RunSpec,
    *,
    hardware: Hardware,
    price: Price,
    budget_usd: float | None,
    views: Views,
) -> SearchResult:
    """Run or resume a search whose spec, data and search record are in the store.

    Args:
        price: of one worker of the run file, as for `guitarfish train`.
        budget_usd: most that all attempts of the search may cost together.

    Raises:
        InterruptedRunError: the user stopped it; it can be resumed.
        BudgetError: the budget was spent before a trial finished.
        RunFailedError: no trial finished.
    """
    trials, strategy, search_id = trials_of(spec), trial_strategy(spec), folder.run_id
    with connect() as session:
        slots = slots_of(spec, strategy, session, len(trials))
        if not folder.before.exists():
            workers = slots.workers if slots.gpus_per_worker else 1
            drive(
                folder,
                spec,
                strategy,
                lambda run: evaluate_stages(replace(run, placement=slots), None),
                hardware=hardware,
                price=price.model_copy(update={"usd_per_hour": price.usd_per_hour * workers}),
                show=views.base,
                session=session,
            )
        base_usd = total_cost(folder.ledger.attempts()).usd
        if spent_out(base_usd, budget_usd):
            raise _too_small(base_usd, budget_usd, search_id)

        def search(run: Run) -> Closed:
            one, before = replace(slots, workers=1), folder.before.read()
            closed = Search(
                job=SearchJob(search_id, spec, strategy, run.base, before, run.tokens(), trials, one),
                folder=folder,
                hardware=hardware,
                concurrent=slots.workers,
                price=price_of_trial(price, slots),
                base_usd=base_usd,
                budget_usd=budget_usd,
                stop_requested=run.stop_requested,
                show=views.trials,
            ).run()
            if closed == "user":
                raise InterruptedRunError(
                    "Stopped as requested; finished trials are kept, and those in training left a checkpoint.",
                    fix=f"Continue with: guitarfish tune --resume {search_id}",
                )
            return closed

        # The machine is paid for in the trials' own attempts; the search's attempt only records that it ran.
        free = Price(usd_per_hour=0, source="its trials carry the cost", date=datetime.now(UTC).date())
        closed = drive(
            folder,
            spec,
            strategy,
            search,
            hardware=hardware,
            price=free,
            show=lambda event: None,
            session=session,
        )
    result = conclude(folder, spec, trials, "budget" if closed == "budget" else "done", budget_usd)
    if result is not None:
        return result
    if closed == "budget":
        spent = sum(total_cost(Ledger(folder.store, run).attempts()).usd for run in runs_of(folder.store, search_id))
        raise _too_small(spent, budget_usd, search_id)
    raise RunFailedError(
        f"None of the {len(trials)} trials finished.",
        where=str(logs_folder(search_id).parent),
        fix=f"Fix what guitarfish runs list shows, then run: guitarfish tune --resume {search_id}",
    )


def _too_small(spent_usd: float, budget_usd: float | None, search_id: str) -> BudgetError:
    return BudgetError(
        f"The budget of ${budget_usd:g} was spent before a trial finished: ${spent_usd:.4f} so far.",
        where="tuning.budget_usd",
        fix=f"Continue with more: guitarfish tune --resume {search_id} --budget {2 * spent_usd:.2g}",
    )
