"""Jobs on a Ray cluster, through the job API of its dashboard."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cluster.identity import own_addresses
from cluster.jobs import FINAL, JobRequest, JobState, JobStatus, Submission
from cluster.ray_address import dashboard_url
from cluster.ray_faults import (
    failed,
    no_dashboard,
    no_nodes,
    no_such_job,
    no_tls,
    no_token,
    not_allowed,
    too_old,
    unreachable,
)
from cluster.ray_token import own_token
from runspec.errors import HardwareError

CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0
AWAY_SECONDS = 180.0
"""How long the dashboard may be away while logs are followed: a head node's network, a proxy that is started anew."""
NODE_SECONDS = 30.0
"""How long a cluster that has just been started gets to list its first machine."""
STOP_SECONDS = 900
"""What a job gets to stop in: one step, a checkpoint and its upload. Ray's own 3 s would kill a run in its step."""
OLDEST = (2, 9)
"""The first Ray that tells a job's exit code."""
LOOK_SECONDS, BYTES_A_SECOND = 1.0, 200_000
"""Logs are asked for every second, and less often once they are long: Ray sends them whole."""
_STATES: dict[str, JobState] = {
    "PENDING": "pending",
    "RUNNING": "running",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "STOPPED": "stopped",
}
ENDINGS = {
    1: "the run failed; its log has the reason",
    2: "something is for the user to mend; its log says what and how",
    3: "the gate was not passed; the adapter is kept, not published",
    4: "the budget is spent; what was finished is kept",
    126: "guitarfish cannot be run on the cluster's head node",
    127: "guitarfish is not on the PATH of the cluster's head node",
    130: "the run was stopped, with a checkpoint",
}
"""What an exit code of `guitarfish train`, or of the shell that looks for it, means."""


@dataclass(frozen=True)
class RayNode:
    """A machine of a Ray cluster.

    Attributes:
        address: its IP address.
        gpus: GPUs that Ray has on it.
    """

    address: str
    gpus: int


class RayJobs:
    """The jobs of one Ray cluster. Implements `cluster.jobs.Jobs`.

    Args:
        address: of the dashboard: http://HOST:8265, https://HOST/path or HOST:PORT. Wins over RAY_ADDRESS.

    Raises:
        HardwareError: it is no address, nothing or something else answers, or the token is missing or wrong.
    """

    def __init__(self, address: str) -> None:
        self.url = dashboard_url(address)
        try:
            self._client = _connect(self.url)
        except _WantsToken:
            if (token := own_token(self.url)) is None:
                raise
            self._client = _connect(self.url, token)
        self.ray_version = str(self._client._server_ray_version)

    @cached_property
    def nodes(self) -> tuple[RayNode, ...]:
        """The machines that are alive. A dashboard answers some seconds before the first of them is listed.

        Raises:
            HardwareError: none comes up.
        """
        deadline = time.monotonic() + NODE_SECONDS
        while not (found := self._nodes()):
            if time.monotonic() > deadline:
                raise no_nodes(self.url)
            time.sleep(LOOK_SECONDS)
        return found

    def _nodes(self) -> tuple[RayNode, ...]:
        with _faults(self.url):
            answer = self._client._do_request("GET", "/api/v0/nodes?detail=0&limit=10000").json()
            return tuple(
                RayNode(str(node["node_ip"]), int(node["resources_total"].get("GPU", 0)))
                for node in answer["data"]["result"]["result"]
                if node["state"] == "ALIVE"
            )

    @property
    def here(self) -> bool:
        """Whether all of it is on this machine. The address does not tell: a forwarded port is on this machine too."""
        return all(node.address in own_addresses() for node in self.nodes)

    @property
    def gpus(self) -> int:
        """GPUs of all machines."""
        return sum(node.gpus for node in self.nodes)

    def entrypoint(self, request: JobRequest) -> str:
        """The shell command of a job. `exec`: Ray's signal to stop then reaches guitarfish and no shell before it.

        On this machine it is this very Python; elsewhere guitarfish has to be on the PATH of the head node.
        """
        command = request.command
        if self.here:
            command = (sys.executable, "-m", *command)
        return f"exec {shlex.join(command)}"

    def submit(self, request: JobRequest) -> Submission:
        """Hand a run over: the job is called as the run, the second one run-2."""
        with _faults(self.url):
            job = self._free_name(request.run_id)
            self._client.submit_job(
                entrypoint=self.entrypoint(request),
                submission_id=job,
                runtime_env={"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}},
                metadata={**request.labels, "guitarfish-run": request.run_id},
            )
        return Submission(target="ray", place=self.url, job=job)

    def _free_name(self, run_id: str) -> str:
        taken = {details.submission_id for details in self._client.list_jobs()}
        number = 1
        while (name := run_id if number == 1 else f"{run_id}-{number}") in taken:
            number += 1
        return name

    def status(self, job: str) -> JobStatus:
        """How a job stands."""
        with _faults(self.url, job):
            details = self._client.get_job_info(job)
        state = _STATES[str(details.status.value)]
        return JobStatus(
            state=state,
            message=message_of(state, details.driver_exit_code, details.message or ""),
            exit_code=details.driver_exit_code,
        )

    def logs(self, job: str, *, follow: bool) -> Iterator[str]:
        """Lines of the driver's output. Asked for again and again, not streamed: what was read is not lost with a
        connection, and a proxy that ends long ones does no harm."""
        read, away_since = 0, None
        while True:
            try:
                ended = not follow or self.status(job).state in FINAL
                with _faults(self.url, job):
                    text = self._client.get_job_logs(job)
                away_since = None
            except _Away:
                now = time.monotonic()
                away_since = away_since or now
                if not follow or now - away_since > AWAY_SECONDS:
                    raise
                time.sleep(LOOK_SECONDS)
                continue
            until = len(text) if ended else text.rfind("\n") + 1
            yield from text[read:until].splitlines()
            read = max(read, until)
            if ended:
                return
            time.sleep(LOOK_SECONDS + len(text) / BYTES_A_SECOND)

    def cancel(self, job: str) -> None:
        """Ask a job to stop with a checkpoint; Ray kills it after STOP_SECONDS. One that has ended is left as it is."""
        with _faults(self.url, job):
            self._client.stop_job(job)


class _WantsToken(HardwareError):
    """401: no token was sent."""


class _Away(HardwareError):
    """The dashboard does not answer; it may again."""


def message_of(state: JobState, exit_code: int | None, message: str) -> str:
    """What is worth saying of a job, in one line. Pure.

    Args:
        message: Ray's, which for a failed job goes on with the end of its log.
    """
    if state == "stopped":
        return "stopped when it was asked to"
    if exit_code:
        return f"exit code {exit_code}: {ENDINGS.get(exit_code, 'it was killed, or ended in a way of its own')}"
    lines = message.strip().splitlines()
    return lines[0][:300] if state in ("pending", "failed") and lines else ""


def _connect(url: str, token: str | None = None) -> Any:
    """Ray's client, with time limits, which its own has none of.

    Args:
        token: to send; None leaves it to Ray and its RAY_AUTH_* variables.

    Raises:
        HardwareError: nothing usable answers.
    """
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        """Refuses in our words; made here because ray must not be imported with this module."""

        def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
            response = super()._do_request(method, endpoint, timeout=(CONNECT_SECONDS, ANSWER_SECONDS), **options)
            if response.status_code == 404 and endpoint.startswith("/api/jobs/"):
                raise _NoSuchJob
            if response.status_code >= 400 and endpoint != "/api/version":
                raise failed(url, response.status_code, response.text)
            if endpoint == "/api/version":
                _check_version(url, response)
            return response

    before = os.environ.get("RAY_API_SERVER_ADDRESS")
    os.environ["RAY_API_SERVER_ADDRESS"] = url  # Ray's client prefers RAY_ADDRESS to its argument, and this to both
    headers = {"Authorization": f"Bearer {token}"} if token else None
    try:
        with _faults(url, first=True):
            return Client(url, headers=headers)
    finally:
        os.environ.pop("RAY_API_SERVER_ADDRESS")
        if before is not None:
            os.environ["RAY_API_SERVER_ADDRESS"] = before


class _NoSuchJob(Exception):
    """404 for a job."""


def _check_version(url: str, response: Any) -> None:
    """See that it is Ray that answers, and a Ray with all that is asked of it below."""
    if response.status_code != 200:
        raise no_dashboard(url)
    version = str(response.json()["ray_version"])
    numbers = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    if len(numbers) == 2 and tuple(numbers) < OLDEST:
        raise too_old(url, version)


@contextmanager
def _faults(url: str, job: str = "", *, first: bool = False) -> Iterator[None]:
    """Turn what Ray's client and `requests` raise into errors that say what to do.

    Args:
        first: nothing is known yet of who answers at the URL.
    """
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except _NoSuchJob:
        raise no_such_job(url, job) from None
    except AuthenticationError as error:
        text = str(error)
        status = 401 if "required" in text[:40] else 403 if "failed" in text[:40] else None
        refusal = no_token(url) if status is None else not_allowed(url, status)
        raise (_as(_WantsToken, refusal) if status == 401 else refusal) from None
    except requests.exceptions.Timeout:
        raise _as(_Away, unreachable(url, ANSWER_SECONDS)) from None
    except requests.exceptions.JSONDecodeError:
        raise no_dashboard(url) from None
    except (requests.exceptions.ConnectionError, ConnectionError) as error:
        told = f"{error} {error.__context__!r} {error.__cause__!r}"  # Ray's client wraps what `requests` raised
        if "SSLError" in told:
            raise no_tls(url) from error
        answered = any(word in told for word in ("BadStatusLine", "RemoteDisconnected", "Connection reset"))
        raise (no_dashboard(url) if first and answered else _as(_Away, unreachable(url))) from error
    except (requests.exceptions.RequestException, KeyError, TypeError) as error:
        raise no_dashboard(url) from error


def _as(kind: type[HardwareError], error: HardwareError) -> HardwareError:
    return kind(error.what, where=error.where, fix=error.fix)
