"""`guitarfish jobs`: status and output of a submitted run, and how to stop it."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from cluster.billing.ledger import Attempt, Ledger, total_cost
from cluster.jobs.jobs import FINAL, Jobs, JobStatus, Submission, last_submission
from cluster.store.runs import RunFolder, find_run
from cluster.store.storage import Store, open_store
from guitarfish.actions.destination import place_of
from guitarfish.show.rendering import dollars, duration, note, print_facts, print_json, say
from guitarfish.verbs.options import DEFAULT_STORE, AsJson, RunId, StoreUri, verb_group
from guitarfish.verbs.submit import exit_code_of, follow_job, store_option

app = verb_group("Show the status and output of a submitted run; stop it.")


@app.command(short_help="Show the job's state, the run's progress and its cost.")
def status(run: RunId, store: StoreUri = DEFAULT_STORE, json: AsJson = False) -> None:
    """Show the job's state from the cluster, and the run's progress and cost from the ledger."""
    opened, run_id, submission, jobs = _find(run, store)
    found = jobs.status(submission.job)
    attempts = Ledger(opened, run_id).attempts()
    if json:
        print_json(_as_json(run_id, submission, found, attempts))
    else:
        _show(opened, run_id, submission, found, attempts)


@app.command(short_help="Print the run's output on the cluster.")
def logs(
    run: RunId,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Until it has ended; then exit with its exit code.")
    ] = False,
    store: StoreUri = DEFAULT_STORE,
) -> None:
    """Print the output of the run's driver on the cluster."""
    opened, run_id, submission, jobs = _find(run, store)
    if follow:
        ended = follow_job(jobs, submission, run_id, opened.uri, to_stderr=False)
        raise typer.Exit(exit_code_of(ended))
    for line in jobs.logs(submission.job, follow=False):
        sys.stdout.write(f"{line}\n")


@app.command(short_help="Stop the run with a checkpoint.")
def cancel(run: RunId, store: StoreUri = DEFAULT_STORE) -> None:
    """Ask the job to stop as Ctrl-C would: at its next step, with a checkpoint. It can be resumed."""
    opened, run_id, submission, jobs = _find(run, store)
    before = jobs.status(submission.job)
    if before.state in FINAL:
        note(f"job {submission.job} has already ended: {before.state}")
        return
    jobs.cancel(submission.job)
    option = store_option(opened.uri)
    note(f"asked job {submission.job} to stop: it will stop at its next step, with a checkpoint")
    note(f"guitarfish jobs status {run_id}{option} shows when it has stopped;")
    note(f"guitarfish submit --resume {run_id} --to {_to(submission)}{option} resumes it")


def _find(run: str, store_uri: str) -> tuple[Store, str, Submission, Jobs]:
    store = open_store(store_uri)
    run_id = find_run(store, run)
    submission = last_submission(store, run_id)
    return store, run_id, submission, place_of(store, run_id, submission)


def _to(submission: Submission) -> str:
    return submission.place if submission.target == "ray" else "k8s"


def _show(store: Store, run_id: str, submission: Submission, found: JobStatus, attempts: list[Attempt]) -> None:
    cost = total_cost(attempts)
    say(f"{run_id}: {found.state}" + (f", {found.message}" if found.message else ""))
    print_facts(
        {
            "job": submission.job,
            "place": submission.place,
            "submitted": f"{submission.at:%Y-%m-%d %H:%M} UTC by {submission.by}",
            "attempts": ", ".join(_outcome(attempt, found) for attempt in attempts) or "none yet",
            "step": max((attempt.step for attempt in attempts), default=0),
            "time": duration(sum(attempt.seconds_total for attempt in attempts)),
            "cost": dollars(cost.usd),
            "next": _next(store, run_id, submission, found),
        }
    )


def _outcome(attempt: Attempt, found: JobStatus) -> str:
    """The ledger calls an attempt without an end `lost`; the cluster knows whether it is running."""
    return "running" if attempt.outcome == "lost" and found.state == "running" else attempt.outcome


def _next(store: Store, run_id: str, submission: Submission, found: JobStatus) -> str:
    option = store_option(store.uri)
    if found.state in ("pending", "running"):
        return f"guitarfish jobs logs {run_id} --follow{option}"
    if store.exists(RunFolder(store, run_id).receipt_path):
        return f"guitarfish runs show {run_id}{option}"
    return f"guitarfish submit --resume {run_id} --to {_to(submission)}{option}"


def _as_json(run_id: str, submission: Submission, found: JobStatus, attempts: list[Attempt]) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "status": found,
        "submission": submission,
        "attempts": [attempt.outcome for attempt in attempts],
        "step": max((attempt.step for attempt in attempts), default=0),
        "cost_usd": total_cost(attempts).usd,
    }
