"""`guitarfish runs`: which runs a store has, and what one of them did and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from guitarfish.options import DEFAULT_STORE, AsJson, StoreUri

if TYPE_CHECKING:
    from cluster.ledger import Attempt
    from cluster.storage import Store

app = typer.Typer(
    help="List runs; show attempts, cost and scores of one.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or its beginning.", show_default=False)]


@app.command("list")
def list_(store: StoreUri = DEFAULT_STORE, json: AsJson = False) -> None:
    """List the runs of a store, newest last."""
    from cluster.runs import list_runs
    from cluster.storage import open_store
    from guitarfish.rendering import dollars, note, print_json, print_table

    runs = list_runs(open_store(store))
    if json:
        print_json([{"run_id": run.run_id, "state": run.state, "usd": run.usd} for run in runs])
    elif runs:
        print_table(["run", "state", "cost"], [(run.run_id, run.state, dollars(run.usd)) for run in runs], right="cost")
    else:
        note(f"{store} has no runs")


@app.command(short_help="Show attempts, cost and scores of a run.")
def show(run: RunId, store: StoreUri = DEFAULT_STORE, json: AsJson = False) -> None:
    """Show a run: its attempts, its cost, its scores, and where everything lies."""
    from cluster.ledger import Ledger, total_cost
    from cluster.runs import find_run, summarise
    from cluster.storage import open_store
    from guitarfish.rendering import print_json

    opened = open_store(store)
    run_id = find_run(opened, run)
    summary = summarise(opened, run_id)
    attempts = Ledger(opened, run_id).attempts()
    if json:
        cost = total_cost(attempts)
        listed = [_as_json(attempt) for attempt in attempts]
        print_json({"run_id": run_id, "state": summary.state, "usd": cost.usd, "attempts": listed,
                    "receipt": summary.receipt, "place": f"{opened.uri}/runs/{run_id}"})  # fmt: skip
    elif summary.receipt is not None:
        _show_receipt(summary.receipt)
    else:
        _show_unfinished(opened, run_id, attempts)


def _show_receipt(receipt: dict[str, Any]) -> None:
    from guitarfish.receipt import show_receipt
    from guitarfish.rendering import say
    from training.receipt import Receipt

    read = Receipt.model_validate(receipt)
    say(f"{read.run_id}: {read.outcome}")
    show_receipt(read)


def _show_unfinished(store: Store, run_id: str, attempts: list[Attempt]) -> None:
    from cluster.ledger import total_cost
    from guitarfish.rendering import dollars, duration, print_facts, print_table, say

    say(f"{run_id}: unfinished")
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
            "place": f"{store.uri}/runs/{run_id}",
            "continue": f"guitarfish train --resume {run_id}",
        }
    )


def _as_json(attempt: Attempt) -> dict[str, Any]:
    return {
        "attempt": attempt.start.attempt,
        "outcome": attempt.outcome,
        "reason": attempt.reason,
        "host": attempt.start.host,
        "started_at": attempt.start.at,
        "step": attempt.step,
        "tokens": attempt.tokens,
        "recomputed_steps": attempt.recomputed_steps,
        "seconds": attempt.seconds,
        "usd": attempt.cost_usd,
        "price_usd_per_hour": attempt.start.price_usd_per_hour,
        "price_source": attempt.start.price_source,
    }
