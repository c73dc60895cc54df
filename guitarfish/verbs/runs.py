"""`guitarfish runs`: which runs a store has, and what one of them did and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from guitarfish.verbs.options import DEFAULT_STORE, AsJson, StoreUri

if TYPE_CHECKING:
    from cluster.billing.ledger import Attempt
    from cluster.store.runs import RunFolder
    from tuning.records import SearchResult

app = typer.Typer(
    help="List runs; show attempts, cost and scores of one.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or its beginning.", show_default=False)]


@app.command("list", short_help="List the runs of a store.")
def list_(store: StoreUri = DEFAULT_STORE, json: AsJson = False) -> None:
    """List the runs of a store, newest first."""
    from cluster.store.runs import list_runs
    from cluster.store.storage import open_store
    from guitarfish.show.rendering import dollars, duration, note, print_json, print_table

    runs = list_runs(open_store(store))
    if json:
        print_json(runs)
    elif runs:
        rows = [
            (
                run.run_id,
                run.state,
                "yes" if run.published else "no",
                run.step,
                duration(run.hours * 3600),
                dollars(run.cost_usd),
            )
            for run in runs
        ]
        print_table(["run", "state", "published", "step", "time", "cost"], rows, right="step time cost")
    else:
        note(f"{store} has no runs")


@app.command(short_help="Show attempts, cost and scores of a run.")
def show(run: RunId, store: StoreUri = DEFAULT_STORE, json: AsJson = False) -> None:
    """Show a run: its attempts, its cost, its scores, and where everything lies."""
    from cluster.billing.ledger import Ledger
    from cluster.store.runs import RunFolder, find_run
    from cluster.store.storage import open_store
    from guitarfish.show.rendering import print_json

    opened = open_store(store)
    folder = RunFolder(opened, find_run(opened, run))
    receipt = opened.read_json(folder.receipt) if opened.exists(folder.receipt) else None
    attempts = Ledger(opened, folder.run_id).attempts()
    if json:
        print_json(_as_json(folder, attempts, receipt))
    elif (search := _search_result(folder)) is not None:
        from guitarfish.show.search_view import show_result

        show_result(search)
    elif receipt is not None:
        _show_receipt(receipt)
    else:
        _show_unfinished(folder, attempts)


def _search_result(folder: RunFolder) -> SearchResult | None:
    """How a search ended the last time; None for other runs, and for a search that has not ended."""
    names = [name for name in folder.store.list(f"runs/{folder.run_id}") if name.startswith("result-")]
    if not names:
        return None
    from tuning.records import SearchResult

    last = max(names, key=lambda name: int(name.removeprefix("result-").removesuffix(".json")))
    return SearchResult.model_validate_json(folder.store.read(folder.path(last)))


def _show_receipt(receipt: dict[str, Any]) -> None:
    from guitarfish.show.receipt import show_receipt
    from guitarfish.show.rendering import say
    from training.run.receipt import Receipt

    read = Receipt.model_validate(receipt)
    say(f"{read.run_id}: {read.outcome}")
    show_receipt(read)


def _show_unfinished(folder: RunFolder, attempts: list[Attempt]) -> None:
    from cluster.billing.ledger import total_cost
    from guitarfish.show.rendering import dollars, duration, print_facts, print_table, say

    say(f"{folder.run_id}: {_state(attempts)}")
    say("")
    rows = [
        (
            one.start.attempt,
            one.outcome,
            one.step,
            one.recomputed_steps,
            duration(one.seconds_total),
            dollars(one.cost_usd),
        )
        for one in attempts
    ]
    columns = ["attempt", "outcome", "to step", "recomputed", "time", "cost"]
    print_table(columns, rows, right="attempt recomputed time cost")
    for attempt in attempts:
        if attempt.reason:
            say(f"attempt {attempt.start.attempt}: {attempt.reason}")
    say("")
    print_facts(
        {
            "cost": dollars(total_cost(attempts).usd),
            "place": f"{folder.store.uri}/runs/{folder.run_id}",
            "continue": _continue_with(folder),
        }
    )


def _continue_with(folder: RunFolder) -> str:
    from training.curation.curated import data_run_of

    search = data_run_of(folder.store, folder.run_id)
    is_search = search != folder.run_id or folder.store.exists(folder.path("search.json"))
    return f"guitarfish tune --resume {search}" if is_search else f"guitarfish train --resume {folder.run_id}"


def _state(attempts: list[Attempt]) -> str:
    from datetime import UTC, datetime

    from cluster.store.runs import state_of

    return state_of(attempts, datetime.now(UTC))


def _as_json(folder: RunFolder, attempts: list[Attempt], receipt: dict[str, Any] | None) -> dict[str, Any]:
    from cluster.billing.ledger import total_cost
    from cluster.store.runs import head_of

    cost = total_cost(attempts)
    return {
        "run_id": folder.run_id,
        "labels": head_of(folder, folder.store.read(folder.spec)).labels,
        "state": "finished" if receipt else _state(attempts),
        "cost_usd": cost.usd,
        "seconds_by_phase": cost.by_phase,
        "attempts": [_attempt_as_json(attempt) for attempt in attempts],
        "receipt": receipt,
        "place": f"{folder.store.uri}/runs/{folder.run_id}",
    }


def _attempt_as_json(attempt: Attempt) -> dict[str, Any]:
    return {
        "attempt": attempt.start.attempt,
        "outcome": attempt.outcome,
        "reason": attempt.reason,
        "host": attempt.start.host,
        "started_at": attempt.start.started_at,
        "step": attempt.step,
        "tokens": attempt.tokens,
        "recomputed_steps": attempt.recomputed_steps,
        "seconds": dict(attempt.seconds),
        "cost_usd": attempt.cost_usd,
        "price_usd_per_hour": attempt.start.price_usd_per_hour,
        "price_source": attempt.start.price_source,
    }
