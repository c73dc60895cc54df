"""`guitarfish report`: one HTML file about a run, to be read, sent on and printed without anything else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.storage import Store
from guitarfish.options import DEFAULT_STORE, AsJson, StoreUri
from runspec.errors import ConflictError, UserError
from training.run_folder import TrainingFolder

if TYPE_CHECKING:
    from guitarfish.reporting.gather import ReportData

HEAD = 4096
"""Bytes at the beginning of a file in which a report says that it is one."""


def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or its beginning.", show_default=False)],
    store: StoreUri = DEFAULT_STORE,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The file to write; RUN.html here without it.", show_default=False),
    ] = None,
    json: AsJson = False,
) -> None:
    """Write a report of a run: verdict, scores, answers before and after, curves, data, cost, plan beside actual.

    The file is all there is: it loads nothing and runs no script. A report that is there already is replaced, any other
    file is left as it is.
    """
    from cluster.runs import find_run
    from cluster.storage import open_store
    from guitarfish.files import write_text
    from guitarfish.rendering import print_json, say
    from guitarfish.reporting.gather import gather
    from guitarfish.reporting.page import render

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
    """See that nothing but an older report would be replaced.

    Raises:
        UserError: a folder or somebody else's file is there, or the place cannot be looked at.
    """
    from guitarfish.reporting.page import GENERATOR

    above = next((folder for folder in target.parents if folder.exists()), None)
    if above is not None and not above.is_dir():
        raise UserError(f"{above} is a file, so nothing can lie below it.", where="--out", fix="name another place")
    try:
        if target.is_dir():
            raise UserError(f"{target} is a folder.", where="--out", fix=f"--out {target / run_id}.html")
        if not target.exists():
            return
        with target.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        what = f"{target} cannot be looked at: {error.strerror}"
        raise UserError(what, where="--out", fix="name a place where you may write") from None
    if f'<meta name="generator" content="{GENERATOR}'.encode() not in head:
        fix = "name another file, or move that one away"
        raise UserError(f"{target} is there already, and is no report of ours.", where="--out", fix=fix)


def keep_report(store: Store, run_id: str) -> str | None:
    """Put the report into the run's folder, unless one is there.

    A run that has finished does not fail for its report: what goes wrong is told as a warning, and its traceback goes
    to the driver's log.

    Returns:
        Where it lies; None where it could not be made.
    """
    import logging

    from guitarfish.rendering import warn
    from guitarfish.reporting.gather import gather
    from guitarfish.reporting.page import render

    path = TrainingFolder(store, run_id).report_path
    try:
        if not store.exists(path):
            store.create(path, render(gather(store, run_id)).encode())
    except ConflictError:
        pass
    except Exception as error:  # told and logged: the run before it is worth more than its report
        logging.getLogger(__name__).exception("the report of %s could not be made", run_id)
        warn(f"the report could not be made ({error}); guitarfish report {run_id} tries again")
        return None
    return f"{store.uri}/{path}"


def _numbers(data: ReportData, target: Path) -> dict[str, Any]:
    """What a program wants to know of a report without reading it."""
    from guitarfish.reporting.headline import dollars_and_seconds, gate_score, headline

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
