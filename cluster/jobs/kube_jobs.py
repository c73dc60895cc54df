"""Runs as KubeRay RayJobs: submit, status, logs, cancel; docs/decisions/0017 explains how a run is stopped there."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cluster.jobs.jobs import FINAL, JobRequest, JobState, JobStatus, Machines, Submission
from cluster.jobs.kube_client import QUIET_SECONDS, SECONDS, Dropped, KubeClient, Missing, Taken
from cluster.jobs.manifests import QUEUE_LABEL, RUN_LABEL, SUBMITTER, job_manifest, label_value, object_name
from cluster.jobs.ray_pods import Manifest
from runspec.errors import HardwareError
from runspec.kubernetes import KubernetesSpec

PLURAL = "rayjobs"
MOST_SUBMISSIONS = 20
TRIES = 5
"""`logs` gives up after this many broken streams in a row without a new line."""
DISORDER_SECONDS = 5
"""By how much a line of a log may be older than the line before it."""
WAITING = ("", "New", "Initializing", "Waiting", "Scheduling", "Scheduled")
"""KubeRay's `jobDeploymentStatus` of a job that has not started."""
INTERRUPTED = 130
"""Exit code of a run that was asked to stop and wrote a checkpoint."""


class KubeJobs:
    """The RayJobs of one namespace. Implements `cluster.jobs.jobs.Jobs`; `manifest` works without a cluster.

    Args:
        settings: the run file's `kubernetes`.
        machines: what the plan asks for; only `submit` and `manifest` need it.
        context: of the kubeconfig.
        seconds: how long an answer of the API server may take.
        quiet_seconds: how long a log stream may be silent before it is opened again.
        poll_seconds: between two looks at a job that has not started or not ended.
    """

    def __init__(
        self,
        settings: KubernetesSpec,
        machines: Machines | None = None,
        context: str | None = None,
        *,
        seconds: float = SECONDS,
        quiet_seconds: float = QUIET_SECONDS,
        poll_seconds: float = 2.0,
    ) -> None:
        self._settings = settings
        self._machines = machines
        self._context = context
        self._seconds = seconds
        self._quiet_seconds = quiet_seconds
        self._poll_seconds = poll_seconds
        self._connected: KubeClient | None = None

    def manifest(self, request: JobRequest) -> Manifest:
        """What `submit` would create. Raises HardwareError where the run has no plan."""
        if self._machines is None:
            raise HardwareError(
                f"The machines that {request.run_id} needs are not known.",
                where="kubernetes",
                fix="Submit it with a plan: `guitarfish plan RUN.yaml` shows whether it has one.",
            )
        return job_manifest(self._settings, self._machines, request)

    def submit(self, request: JobRequest) -> Submission:
        """Create the RayJob. A run that was submitted before and has ended continues: in its suspended RayJob, else in
        a new one with a number after its name, so that the output of the old one stays.

        Raises:
            HardwareError: the run is already running there, or the API server refuses.
        """
        manifest = self.manifest(request)
        for number in range(1, MOST_SUBMISSIONS + 1):
            name = object_name(request.run_id if number == 1 else f"{request.run_id}-{number}")
            manifest["metadata"]["name"] = name
            try:
                self._client.create(PLURAL, manifest)
            except Taken as error:
                if not self._resumed(error, name, request.run_id):
                    continue
            return Submission(target="k8s", place=self._settings.namespace, job=name, context=self._context)
        raise HardwareError(
            f"{request.run_id} was already submitted {MOST_SUBMISSIONS} times.",
            where=f"namespace {self._settings.namespace}",
            fix=f"Run `kubectl delete rayjobs -l {RUN_LABEL}={label_value(request.run_id)} "
            f"-n {self._settings.namespace}`.",
        )

    def status(self, job: str) -> JobStatus:
        found = self._client.get(PLURAL, job)
        status = status_of(found)
        if status.state == "pending" and (why := self._why_waiting(found)):
            return status.model_copy(update={"message": why})
        return status

    def logs(self, job: str, *, follow: bool) -> Iterator[str]:
        place, name, broken = LogPlace(), "", 0
        while True:
            try:
                ended = not follow or self.status(job).state in FINAL
                pod = self._submitter(job)
                if pod is not None and pod != name:  # another pod prints it from the beginning
                    place, name = LogPlace(), pod
                for line in self._read(name, place, follow=not ended) if name else ():
                    broken = 0
                    yield line
                if ended:
                    return
            except Missing:
                if not name:
                    raise
                return  # deleted while its log was read
            except Dropped:
                broken += 1
                if broken >= TRIES:
                    raise
            time.sleep(self._poll_seconds)

    def cancel(self, job: str) -> None:
        """Suspend the RayJob: before its pods end, the driver gets SIGTERM and time for a checkpoint.

        A job with a Kueue queue is deleted instead: Kueue would start it again.
        """
        found = self._client.get(PLURAL, job)
        if status_of(found).state in FINAL:
            return
        if QUEUE_LABEL in (found["metadata"].get("labels") or {}):
            self._client.delete(PLURAL, job)
        else:
            self._client.patch(PLURAL, job, {"spec": {"suspend": True}})

    @property
    def _client(self) -> KubeClient:
        if self._connected is None:
            self._connected = KubeClient(
                self._settings.namespace, self._context, seconds=self._seconds, quiet_seconds=self._quiet_seconds
            )
        return self._connected

    def _read(self, pod: str, place: LogPlace, *, follow: bool) -> Iterator[str]:
        place.rewind()
        pieces = self._client.log(pod, SUBMITTER, follow=follow, since=place.second or None)
        for line in whole_lines(pieces, last=not follow):
            text = place.take(line)
            if text is not None:
                yield text

    def _submitter(self, job: str) -> str | None:
        """The newest of the pods that print the driver's output, once it has started; None before."""
        started = ("Running", "Succeeded", "Failed")
        pods = [
            pod for pod in self._client.pods(f"job-name={job}") if (pod.get("status") or {}).get("phase") in started
        ]
        newest = max(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp") or ""), default=None)
        return None if newest is None else str(newest["metadata"]["name"])

    def _why_waiting(self, found: Manifest) -> str:
        cluster = (found.get("status") or {}).get("rayClusterName")
        pods = self._client.pods(f"ray.io/cluster={cluster}") if cluster else []
        return next((why for pod in pods if (why := why_pod_waits(pod))), "")

    def _resumed(self, error: Taken, name: str, run_id: str) -> bool:
        """Whether the existing RayJob could be resumed; False where it has ended for good. Raises HardwareError where
        it is still running, or belongs to another run."""
        found = self._client.get(PLURAL, name)
        run = (found["metadata"].get("annotations") or {}).get(RUN_LABEL, "something else")
        state = status_of(found).state
        if run != run_id or state not in FINAL:
            raise HardwareError(
                f"The rayjob `{name}` already exists: it belongs to {run} and is {state}.",
                where=error.where,
                fix=f"Watch it with `guitarfish jobs logs {run_id}` or stop it with `guitarfish jobs cancel {run_id}`."
                if run == run_id
                else f"Run `kubectl delete rayjob {name} -n {self._settings.namespace}` if it is no longer needed.",
            ) from None
        if not found.get("spec", {}).get("suspend"):
            return False
        self._client.patch(PLURAL, name, {"spec": {"suspend": False}})
        return True


def status_of(rayjob: Manifest) -> JobStatus:
    """The state of a RayJob, from the status that KubeRay writes. Pure."""
    status = rayjob.get("status") or {}
    deployment, job = str(status.get("jobDeploymentStatus") or ""), str(status.get("jobStatus") or "")
    message = " ".join(part for part in (status.get("reason"), _first_line(status.get("message"))) if part)
    code = _exit_code(str(status.get("message") or ""))
    suspended = bool(rayjob.get("spec", {}).get("suspend"))
    queue = (rayjob["metadata"].get("labels") or {}).get(QUEUE_LABEL)
    if deployment in ("Complete", "Failed"):
        return _ended(deployment, job, message, code)
    if queue is not None and suspended:
        return JobStatus(state="pending", message=f"waiting in queue {queue}")
    if deployment == "Suspended" or (suspended and deployment in ("", "New")):
        return JobStatus(state="stopped", message="suspended with a checkpoint; submit it again to resume")
    if deployment == "Suspending" or suspended:
        return JobStatus(state="running", message="stopping with a checkpoint")
    if deployment == "Retrying":
        return JobStatus(state="pending", message=f"restarting after: {message}" if message else "restarting")
    if deployment in WAITING or job in ("", "PENDING"):
        return JobStatus(state="pending", message=message)
    return JobStatus(state="running", message=message)


def _ended(deployment: str, job: str, message: str, code: int | None) -> JobStatus:
    state: JobState = "failed"
    if job == "STOPPED" or code == INTERRUPTED:
        state = "stopped"
    elif deployment == "Complete" and job == "SUCCEEDED":
        state, code = "succeeded", 0
    return JobStatus(state=state, message=message, exit_code=code)


def why_pod_waits(pod: Manifest) -> str:
    """Why a pod has not started, in the cluster's words; empty where it has, or the cluster gives no reason. Pure."""
    status = pod.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return (
                f"{pod['metadata']['name']}: {condition.get('message') or condition.get('reason') or 'not scheduled'}"
            )
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return f"{pod['metadata']['name']}: {waiting['reason']}: {_first_line(waiting.get('message'))}"
    return ""


def _exit_code(message: str) -> int | None:
    """KubeRay has no field for it. Ray writes `Job entrypoint command failed with exit code 3, last available logs`."""
    found = re.search(r"failed with exit code (\d+)", message)
    return int(found[1]) if found else None


def _first_line(text: Any) -> str:
    lines = str(text or "").strip().splitlines()
    return lines[0][:300] if lines else ""


@dataclass
class LogPlace:
    """How far a log was read: its last second, and the lines of the seconds before it.

    When a broken stream is opened again, the API server starts well before that second. Lines of the last few seconds
    are recognised by their time and text: several may share a time, and a later line may have an earlier time.
    """

    second: int = 0
    _read: dict[int, Counter[str]] = field(default_factory=dict, repr=False)
    _again: Counter[str] = field(default_factory=Counter, repr=False)
    _behind: bool = False

    def rewind(self) -> None:
        """The log is about to be read again."""
        self._again, self._behind = sum(self._read.values(), Counter()), True

    def take(self, stamped: str) -> str | None:
        """The text of a line `TIME TEXT`; None where it was read before."""
        time, _, text = stamped.partition(" ")
        second = _unix_second(time)
        if second is None:  # not the container's words but the API server's, as for a log that was rotated away
            return stamped
        self._behind = self._behind and second < self.second
        if self._behind and second < self.second - DISORDER_SECONDS:
            return None
        if self._again[stamped] > 0:
            self._again[stamped] -= 1
            return None
        if second > self.second:
            self.second = second
            self._read = {each: lines for each, lines in self._read.items() if each >= second - DISORDER_SECONDS}
        self._read.setdefault(second, Counter())[stamped] += 1
        return text


def _unix_second(time: str) -> int | None:
    """The second of an RFC 3339 time; None where it is not a time. Kubelets write nine decimals and the node's zone."""
    zone = time[19:].lstrip(".0123456789")
    try:
        return int(datetime.fromisoformat(time[:19] + zone).timestamp())
    except ValueError:
        return None


def whole_lines(pieces: Iterable[bytes], *, last: bool) -> Iterator[str]:
    """Cut a stream into lines.

    Args:
        last: the log is complete, so what follows the last line break is a line too; otherwise it is cut short.
    """
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace").removesuffix("\r")
    if last and rest:
        yield rest.decode(errors="replace")
