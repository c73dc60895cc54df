"""`guitarfish report`: one HTML file about a run, to read, send on and print."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.store.runs import find_run
from cluster.store.storage import Store, open_store
from guitarfish.report.gather import ReportData, gather
from guitarfish.report.headline import dollars_and_seconds, gate_score, headline
from guitarfish.report.page import GENERATOR, render
from guitarfish.show.rendering import print_json, say, warn, write_text
from guitarfish.verbs.options import DEFAULT_STORE, AsJson, RunId, StoreUri
from runspec.errors import ConflictError, UserError
from training.run.run_folder import TrainingFolder

HEAD = 4096
"""Bytes at the beginning of a file in which a report names its generator."""


def report(
    run: RunId,
    store: StoreUri = DEFAULT_STORE,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="The file to write. Default: RUN.html in this folder.", show_default=False
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Write a report of a run: verdict, scores, answers before and after, curves, data, cost, and plan against actual.

    The file is self-contained: it loads nothing and runs no script. It replaces an older report, but no other file.
    """
    opened = open_store(store)
    run_id = find_run(opened, run)
    target = out if out is not None else Path(f"{run_id}.html")
    check_target(target, run_id)
    data = gather(opened, run_id)
    write_text(target, render(data))
    if json:
        print_json(_numbers(data, target))
    else:
        say(str(target))


def check_target(target: Path, run_id: str) -> None:
    """Check that nothing but an older report would be replaced.

    Raises:
        UserError: the path is a folder, another program's file, or cannot be read.
    """
    above = next((folder for folder in target.parents if folder.exists()), None)
    if above is not None and not above.is_dir():
        raise UserError(f"{above} is a file, not a folder.", where="--out", fix="Choose another path.")
    try:
        if target.is_dir():
            raise UserError(f"{target} is a folder.", where="--out", fix=f"Use --out {target / run_id}.html.")
        if not target.exists():
            return
        with target.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        what = f"Cannot read {target}: {error.strerror}."
        raise UserError(what, where="--out", fix="Choose a path that you may write to.") from None
    if f'<meta name="generator" content="{GENERATOR}'.encode() not in head:
        what = f"{target} already exists and is not a guitarfish report."
        raise UserError(what, where="--out", fix="Name another file, or move that one away.")


def keep_report(store: Store, run_id: str) -> str | None:
    """Put the report into the run's folder, unless it has one.

    A run that has finished does not fail because of its report: an error becomes a warning, and its traceback goes to
    the driver's log.

    Returns:
        Where it is; None where it could not be made.
    """
    path = TrainingFolder(store, run_id).report_path
    try:
        if not store.exists(path):
            store.create(path, render(gather(store, run_id)).encode())
    except ConflictError:
        pass
    except Exception as error:  # shown and logged: the run is worth more than its report
        logging.getLogger(__name__).exception("the report of %s could not be made", run_id)
        warn(f"the report could not be made ({error}); guitarfish report {run_id} tries again")
        return None
    return f"{store.uri}/{path}"


def _numbers(data: ReportData, target: Path) -> dict[str, Any]:
    """The numbers of a report, for --json."""
    verdict, gate = headline(data), gate_score(data)
    usd, seconds = dollars_and_seconds(data)
    return {
        "report": str(target),
        "run_id": data.run_id,
        "kind": data.kind,
        "state": data.state,
        "verdict": verdict.sentence,
        "passed": data.result.verdict.passed if data.result else None,
        "metric": gate.metric if gate else data.spec.gate.metric,
        "before": gate.before if gate else None,
        "after": gate.after if gate else None,
        "gain": gate.gain if gate else None,
        "cost_usd": usd,
        "seconds": seconds,
    }
