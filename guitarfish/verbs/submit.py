"""`guitarfish submit`: validate, plan and store a run here, and train it on a cluster."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.jobs.jobs import (
    FINAL,
    JobRequest,
    Jobs,
    JobState,
    JobStatus,
    Submission,
    find_submission,
    record_submission,
)
from cluster.jobs.manifests import manifest_text
from cluster.store.runs import find_run, new_run_id, state_of
from cluster.store.storage import Store, open_store
from guitarfish.actions.destination import Destination, check_reach, destination, site_of
from guitarfish.actions.driving import look_at_run, predict_run, put_run
from guitarfish.show.rendering import note, print_facts, print_json
from guitarfish.verbs.options import DEFAULT_STORE, AsJson, Context, Overrides, RunFileOrNone, StoreUri
from guitarfish.verbs.train import resumable
from runspec.errors import HardwareError, UserError
from runspec.load import absolute_store, load_run, resolved
from runspec.run import RunSpec
from training.planning.prediction import Prediction
from training.run.run_folder import TrainingFolder


@dataclass(frozen=True)
class _Stored:
    """A run that is in its store, or would be but for a dry run."""

    folder: TrainingFolder
    spec: RunSpec
    prediction: Prediction | None

    @property
    def run_id(self) -> str:
        return self.folder.run_id

    @property
    def store(self) -> Store:
        return self.folder.store

    @property
    def request(self) -> JobRequest:
        return JobRequest(self.run_id, self.store.uri, self.spec.labels)


def submit(
    run_file: RunFileOrNone = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="ADDRESS", help="A Ray dashboard, as in http://HOST:8265, or k8s.")
    ] = None,
    set_: Overrides = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN", help="Resume this run where it stopped.")
    ] = None,
    hardware: Annotated[
        str | None, typer.Option("--hardware", metavar="NxCARD", help='Plan for these cards, as in "2x RTX 4090".')
    ] = None,
    context: Context = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Print the run's output, and exit with its exit code. Ctrl-C leaves it running."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be submitted, and write nothing.")
    ] = False,
    store: StoreUri = DEFAULT_STORE,
    json: AsJson = False,
) -> None:
    """Validate, curate and plan a run here, put it into its store, and train it from there on a cluster.

    The cluster runs `guitarfish train --resume RUN`: it needs guitarfish, the store and its credentials, but no files.
    """
    if to is None:
        raise UserError("--to is missing.", where="--to", fix="Add --to http://HOST:8265 or --to k8s.")
    if (run_file is None) == (resume is None):
        raise UserError(
            "Give either a run file to start or a run to resume.",
            fix="Use `guitarfish submit RUN.yaml --to ...` or `guitarfish submit --resume RUN --to ...`.",
        )
    if run_file is not None:
        run, place = _begin(run_file, set_, hardware, to, context, dry_run)
    else:
        assert resume is not None
        run = _stored(resume, store, set_, hardware)
        place = destination(to, context)
        _check_resumable(run, place)
    jobs = place.jobs(run.spec, run.prediction)
    if dry_run:
        _show_request(run, place, jobs, json)
        return
    submission = _hand_over(run, place, jobs)
    if not follow:
        _show_submission(run, submission, json)
        return
    status = follow_job(jobs, submission, run.run_id, run.store.uri, to_stderr=json)
    if json:
        print_json({"run_id": run.run_id, "submission": submission, "status": status})
    raise typer.Exit(exit_code_of(status))


def _begin(
    run_file: Path, set_: list[str] | None, hardware: str | None, to: str, context: str | None, dry_run: bool
) -> tuple[_Stored, Destination]:
    """A new run in its store; whatever can be refused is refused before it is written."""
    spec = resolved(load_run(run_file, set_ or ()))
    place = destination(to, context)
    check_reach(spec, place)
    site = site_of(spec, hardware, place)
    if site is None:
        note('no plan: name the cluster\'s GPUs for one, as in --hardware "2x RTX 4090"')
    ready = look_at_run(spec, partial(predict_run, site=site) if site else None, here=place.here, dry_run=dry_run)
    place.jobs(ready.spec, ready.prediction)  # Kubernetes refuses a run without a plan
    if dry_run:
        folder = TrainingFolder(ready.store, new_run_id(spec.name))
    else:
        folder = put_run(ready, "train", TrainingFolder)
    return _Stored(folder, ready.spec, ready.prediction), place


def _stored(run: str, store_uri: str, set_: list[str] | None, hardware: str | None) -> _Stored:
    for name, given in (("--set", set_), ("--hardware", hardware)):
        if given:
            raise UserError(
                f"{name} cannot change a run that has started.", where=name, fix="Submit a new run with it."
            )
    store = open_store(store_uri)
    folder = resumable(store, find_run(store, run))
    return _Stored(folder, folder.spec.read(), folder.prediction.read_if_there())


def _check_resumable(run: _Stored, place: Destination) -> None:
    """Raise UserError where the run has finished or is running, or the cluster cannot reach its store."""
    folder = run.folder
    if folder.receipt.exists():
        raise UserError(
            f"{run.run_id} has finished.",
            where=folder.receipt.where,
            fix=f"See it with `guitarfish runs show {run.run_id}`.",
        )
    if not folder.data.exists():
        raise UserError(
            f"{run.run_id} was stopped before its data was in the store.",
            where=folder.data.where,
            fix="Submit its run file again.",
        )
    check_reach(run.spec.model_copy(update={"store": run.store.uri}), place)
    if (going_on := _going_on(run, place)) is not None:
        raise UserError(
            f"{run.run_id} is already running: {going_on}.",
            where=f"{run.store.uri}/{folder.attempts_path}",
            fix=f"Stop it with `guitarfish jobs cancel {run.run_id}`, or wait until it has ended.",
        )


def _going_on(run: _Stored, place: Destination) -> str | None:
    """What drives the run now; None where nothing does. Two drivers would write the same checkpoints."""
    last = find_submission(run.store, run.run_id)
    if last is not None and place.took(last, run.spec):
        state = _state_there(place.jobs(run.spec, run.prediction), last.job)
        if state is not None:
            return None if state in FINAL else f"job {last.job} is {state}"
    attempts = run.folder.ledger.attempts()
    return "its ledger was written in the last minutes" if state_of(attempts, datetime.now(UTC)) == "running" else None


def _state_there(jobs: Jobs, job: str) -> JobState | None:
    """None where the place has forgotten the job or does not answer: then the ledger decides."""
    try:
        return jobs.status(job).state
    except HardwareError:
        return None


def _hand_over(run: _Stored, place: Destination, jobs: Jobs) -> Submission:
    note(f"run {run.run_id}")
    try:
        submission = jobs.submit(run.request)
    except HardwareError as error:
        again = f"The run is in the store: submit it with `guitarfish submit --resume {run.run_id} --to {place.name}`."
        raise HardwareError(error.what, where=error.where, fix=f"{error.fix} {again}".strip()) from error
    note(f"submitted to {submission.place} as job {submission.job}")
    record_submission(run.store, run.run_id, submission)
    return submission


def _show_request(run: _Stored, place: Destination, jobs: Any, json: bool) -> None:
    note("dry run: nothing was written, and no job submitted")
    if place.ray is not None:
        facts = {"place": place.name, "run": run.run_id, "entrypoint": place.ray.entrypoint(run.request)}
        print_json(facts) if json else print_facts(facts)
    elif json:
        print_json(jobs.manifest(run.request))
    else:
        sys.stdout.write(manifest_text(jobs.manifest(run.request)))


def _show_submission(run: _Stored, submission: Submission, json: bool) -> None:
    if json:
        print_json({"run_id": run.run_id, "submission": submission})
        return
    option = store_option(run.store.uri)
    print_facts(
        {
            "status": f"guitarfish jobs status {run.run_id}{option}",
            "output": f"guitarfish jobs logs {run.run_id} --follow{option}",
            "stop": f"guitarfish jobs cancel {run.run_id}{option}",
        }
    )


def store_option(uri: str) -> str:
    """` --store URI` where the verbs would look elsewhere without it."""
    return "" if absolute_store(os.environ.get("GUITARFISH_STORE") or DEFAULT_STORE) == uri else f" --store {uri}"


def follow_job(jobs: Jobs, submission: Submission, run_id: str, store: str, *, to_stderr: bool) -> JobStatus:
    """Print a job's output until it has ended. Ctrl-C ends only the printing (typer.Exit)."""
    stream = sys.stderr if to_stderr else sys.stdout
    try:
        for line in jobs.logs(submission.job, follow=True):
            stream.write(f"{line}\n")
            stream.flush()
        status = jobs.status(submission.job)
    except KeyboardInterrupt:
        option = store_option(store)
        note(f"\n{run_id} is still running. guitarfish jobs logs {run_id} --follow{option} shows its output again;")
        note(f"guitarfish jobs cancel {run_id}{option} stops it.")
        raise typer.Exit(130) from None
    note(f"job {submission.job}: {status.state}" + (f", {status.message}" if status.message else ""))
    return status


def exit_code_of(status: JobStatus) -> int:
    """The exit code of a job that was followed to its end: the run's own, where there is one of `guitarfish train`."""
    if status.state == "succeeded":
        return 0
    if status.state == "stopped":
        return 130
    return status.exit_code if status.exit_code in (1, 2, 3, 4, 130) else 1
