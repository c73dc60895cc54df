"""`guitarfish runs`: which runs a store has, and what one of them did and cost."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cluster.billing.ledger import Attempt, total_cost
from cluster.store.runs import find_run, head_of, list_runs, state_of
from cluster.store.storage import open_store
from guitarfish.show.receipt import show_receipt
from guitarfish.show.rendering import dollars, duration, note, print_facts, print_json, print_table, say, show_table
from guitarfish.show.search_view import show_result
from guitarfish.show.tables import attempt_table
from guitarfish.verbs.options import DEFAULT_STORE, AsJson, RunId, StoreUri, verb_group
from training.run.receipt import Receipt
from tuning.records import SearchFolder

app = verb_group("List runs; show attempts, cost and scores of one.")


@app.command("list", short_help="List the runs of a store.")
def list_(store: StoreUri = DEFAULT_STORE, json: AsJson = False) -> None:
    """List the runs of a store, newest first."""
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
    """Show a run: its attempts, its cost, its scores, and where everything is."""
    opened = open_store(store)
    folder = SearchFolder(opened, find_run(opened, run))
    receipt, attempts = folder.receipt.read_if_there(), folder.ledger.attempts()
    if json:
        print_json(_as_json(folder, attempts, receipt))
    elif (search := folder.last_result()) is not None:
        show_result(search)
    elif receipt is not None:
        say(f"{receipt.run_id}: {receipt.outcome}")
        show_receipt(receipt)
    else:
        _show_unfinished(folder, attempts)


def _show_unfinished(folder: SearchFolder, attempts: list[Attempt]) -> None:
    say(f"{folder.run_id}: {state_of(attempts, datetime.now(UTC))}")
    say("")
    show_table(attempt_table(attempts))
    for attempt in attempts:
        if attempt.reason:
            say(f"attempt {attempt.start.attempt}: {attempt.reason}")
    say("")
    print_facts(
        {
            "cost": dollars(total_cost(attempts).usd),
            "place": folder.where,
            "continue": _continue_with(folder),
        }
    )


def _continue_with(folder: SearchFolder) -> str:
    trial = folder.trial.read_if_there()
    if trial is None and not folder.search.exists():
        return f"guitarfish train --resume {folder.run_id}"
    return f"guitarfish tune --resume {trial.search if trial else folder.run_id}"


def _as_json(folder: SearchFolder, attempts: list[Attempt], receipt: Receipt | None) -> dict[str, Any]:
    cost = total_cost(attempts)
    return {
        "run_id": folder.run_id,
        "labels": head_of(folder, folder.store.read(folder.spec.path)).labels,
        "state": "finished" if receipt else state_of(attempts, datetime.now(UTC)),
        "cost_usd": cost.usd,
        "seconds_by_phase": cost.by_phase,
        "attempts": [_attempt_as_json(attempt) for attempt in attempts],
        "receipt": receipt,
        "place": folder.where,
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
