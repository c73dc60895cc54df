"""Jobs on a cluster: what both Ray's job API and Kubernetes do for a run, and where a run was submitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol

from pydantic import Field

from cluster.machine.identity import whoami
from cluster.store.records import Record
from cluster.store.runs import RunFolder
from cluster.store.storage import Store
from runspec.errors import ConflictError, StoreError
from runspec.strict import Strict

JobState = Literal["pending", "running", "succeeded", "failed", "stopped"]
FINAL: tuple[JobState, ...] = ("succeeded", "failed", "stopped")


class JobStatus(Strict):
    """The state of a job."""

    state: JobState
    message: str
    """Why, in the cluster's words; may be empty."""
    exit_code: int | None = None
    """Of `guitarfish train`, where it has ended and the cluster knows."""


class Submission(Strict):
    """Where a run was submitted. Stored as runs/<run-id>/submissions/<n>.json; holds no credentials."""

    target: Literal["ray", "k8s"]
    place: str
    """Ray's address, or the namespace."""
    job: str
    """The job's name there."""
    context: str | None = None
    """Of the kubeconfig. Null: the current one, or the pod's service account."""
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    by: str = Field(default_factory=whoami)


@dataclass(frozen=True)
class JobRequest:
    """What a cluster is asked to run.

    Attributes:
        run_id: a run whose spec, data and plan are in the store.
        store: URI of the store, which the cluster's machines reach with their own credentials.
        labels: of the run file.
    """

    run_id: str
    store: str
    labels: dict[str, str]

    @property
    def command(self) -> tuple[str, ...]:
        """What the driver runs. After a failure the same command resumes: all that the run needs is in the store."""
        return "guitarfish", "train", "--resume", self.run_id, "--store", self.store


@dataclass(frozen=True)
class Machines:
    """What a job needs, from the plan.

    Attributes:
        workers: pods that compute.
        gpus_per_worker: 0 on CPU.
        memory_bytes_per_worker: main memory of one pod: the predicted peak and some headroom.
        gpu_label: the catalogue's name of the card, such as "RTX 4090"; None on CPU.
        hours: the plan's estimate; None where it has none.
    """

    workers: int
    gpus_per_worker: int
    cpus_per_worker: int
    memory_bytes_per_worker: int
    gpu_label: str | None
    hours: float | None


class Jobs(Protocol):
    """A place that runs jobs: a Ray cluster's job API, or a namespace of Kubernetes.

    Every method raises HardwareError where the cluster does not answer or refuses.
    """

    def submit(self, request: JobRequest) -> Submission:
        """Submit a run; returns when the cluster has accepted it."""

    def status(self, job: str) -> JobStatus: ...

    def logs(self, job: str, *, follow: bool) -> Iterator[str]:
        """Lines of the driver's output; with `follow` until the job has ended. A broken stream is resumed where it
        broke."""

    def cancel(self, job: str) -> None:
        """Ask a job to stop as Ctrl-C would, with a checkpoint. A job that has ended is left alone."""


def record_submission(store: Store, run_id: str, submission: Submission) -> None:
    """Record where a run was submitted. Raises StoreError."""
    number = 1 + max(_numbers(store, run_id), default=0)
    while True:
        try:
            return _record(store, run_id, number).write(submission)
        except ConflictError:
            number += 1


def find_submission(store: Store, run_id: str) -> Submission | None:
    """Where a run was last submitted; None where it was not. Raises StoreError where the record is damaged."""
    last = max(_numbers(store, run_id), default=0)
    return _record(store, run_id, last).read() if last else None


def last_submission(store: Store, run_id: str) -> Submission:
    """Where a run was last submitted. Raises StoreError where it was not, or the record is damaged."""
    found = find_submission(store, run_id)
    if found is None:
        raise StoreError(
            f"Run {run_id} was not submitted to a cluster.",
            where=f"{store.uri}/{_folder(store, run_id)}",
            fix=f"See what it did with `guitarfish runs show {run_id}`, or submit a run with "
            "`guitarfish submit RUN.yaml --to ...`.",
        )
    return found


def _record(store: Store, run_id: str, number: int) -> Record[Submission]:
    fix = "Move the file away; without it the submission before it counts, or none."
    return Record(store, f"{_folder(store, run_id)}/{number}.json", Submission, fix=fix)


def _folder(store: Store, run_id: str) -> str:
    return RunFolder(store, run_id).path("submissions")


def _numbers(store: Store, run_id: str) -> list[int]:
    names = store.list(_folder(store, run_id))
    return [int(stem) for name in names if (stem := name.removesuffix(".json")).isdigit()]
