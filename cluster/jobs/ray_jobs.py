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

from cluster.jobs.jobs import FINAL, JobRequest, JobState, JobStatus, Submission
from cluster.machine.identity import own_addresses
from cluster.machine.ray_address import DASHBOARD_PORT, OTHER_PORTS, dashboard_url, own_token, port_of
from runspec.errors import HardwareError

CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0
AWAY_SECONDS = 180.0
"""How long the dashboard may be unreachable while logs are followed, as when a proxy restarts."""
NODE_SECONDS = 30.0
"""How long a cluster that was just started has to list its first machine."""
STOP_SECONDS = 900
"""How long a job has to stop: one step, a checkpoint and its upload. Ray's default of 3 s would kill it mid-step."""
OLDEST = (2, 9)
"""The first Ray that reports a job's exit code."""
LOOK_SECONDS, BYTES_A_SECOND = 1.0, 200_000
"""Logs are read every second, and less often once they are long: Ray sends them whole each time."""
_STATES: dict[str, JobState] = {
    "PENDING": "pending",
    "RUNNING": "running",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "STOPPED": "stopped",
}
ENDINGS = {
    1: "the run failed; its log has the reason",
    2: "the input needs fixing; its log says what and how",
    3: "the gate was not passed; the adapter is kept but not published",
    4: "the budget is spent; finished work is kept",
    126: "guitarfish cannot be executed on the cluster's head node",
    127: "guitarfish is not on the PATH of the cluster's head node",
    130: "the run was stopped with a checkpoint",
}
"""Exit codes of `guitarfish train`, and of the shell that starts it."""
TOKEN_VARIABLES = "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH (a file) or RAY_AUTH_TOKEN"


@dataclass(frozen=True)
class RayNode:
    """A machine of a Ray cluster: its IP address, and the GPUs that Ray has on it."""

    address: str
    gpus: int


class RayJobs:
    """The jobs of one Ray cluster. Implements `cluster.jobs.jobs.Jobs`.

    Args:
        address: of the dashboard: http://HOST:8265, https://HOST/path or HOST:PORT. Wins over RAY_ADDRESS.

    Raises:
        HardwareError: it is not an address, no dashboard answers, or the token is missing or wrong.
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
        """The machines that are alive. A dashboard answers some seconds before it lists the first of them."""
        deadline = time.monotonic() + NODE_SECONDS
        while not (found := self._nodes()):
            if time.monotonic() > deadline:
                raise HardwareError(
                    "The cluster has no live machine.", where=self.url, fix="See the raylet's log on its head node."
                )
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
        """Whether all of it is on this machine. The URL does not show that: a forwarded port is local too."""
        return all(node.address in own_addresses() for node in self.nodes)

    @property
    def gpus(self) -> int:
        return sum(node.gpus for node in self.nodes)

    def entrypoint(self, request: JobRequest) -> str:
        """The shell command of a job: this Python on this machine, else the guitarfish on the PATH of the head node.

        `exec`, so that Ray's signal to stop reaches guitarfish and not a shell.
        """
        command = request.command
        if self.here:
            command = (sys.executable, "-m", *command)
        return f"exec {shlex.join(command)}"

    def submit(self, request: JobRequest) -> Submission:
        """Submit a run. The job has the run's id as its name; a second job of the run is called `<run-id>-2`."""
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
        with _faults(self.url, job):
            details = self._client.get_job_info(job)
        state = _STATES[str(details.status.value)]
        return JobStatus(
            state=state,
            message=message_of(state, details.driver_exit_code, details.message or ""),
            exit_code=details.driver_exit_code,
        )

    def logs(self, job: str, *, follow: bool) -> Iterator[str]:
        """Lines of the driver's output, polled: a stream would break at proxies that end long connections."""
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
        """Ask a job to stop with a checkpoint; Ray kills it after STOP_SECONDS."""
        with _faults(self.url, job):
            self._client.stop_job(job)


def message_of(state: JobState, exit_code: int | None, message: str) -> str:
    """One line about a job. Pure.

    Args:
        message: Ray's, which for a failed job includes the end of its log.
    """
    if state == "stopped":
        return "on request"
    if exit_code:
        return f"exit code {exit_code}: {ENDINGS.get(exit_code, 'it was killed or crashed')}"
    lines = message.strip().splitlines()
    return lines[0][:300] if state in ("pending", "failed") and lines else ""


class _WantsToken(HardwareError):
    """401: no token was sent."""


class _Away(HardwareError):
    """The dashboard does not answer now, but may later."""


class _NoSuchJob(Exception):
    """404 for a job."""


def _connect(url: str, token: str | None = None) -> Any:
    """Ray's client, with time limits, which it lacks.

    Args:
        token: to send; None leaves it to Ray and its RAY_AUTH_* variables.

    Raises:
        HardwareError: no usable dashboard answers.
    """
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        """Defined here because ray must not be imported with this module."""

        def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
            response = super()._do_request(method, endpoint, timeout=(CONNECT_SECONDS, ANSWER_SECONDS), **options)
            if endpoint == "/api/version":
                _check_version(url, response)
            elif response.status_code == 404 and endpoint.startswith("/api/jobs/"):
                raise _NoSuchJob
            elif response.status_code >= 400:
                lines = [line for line in response.text.splitlines() if line.strip()]
                cause = lines[-1].strip()[:300] if lines else f"HTTP {response.status_code}"
                raise HardwareError(
                    f"Ray could not carry out the request: {cause}",  # the last line of a traceback
                    where=f"{url} (HTTP {response.status_code})",
                    fix="See the dashboard's logs.",
                )
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


def _check_version(url: str, response: Any) -> None:
    """See that Ray answers, and one whose job API is new enough."""
    if response.status_code != 200:
        raise _no_dashboard(url)
    version = str(response.json()["ray_version"])
    numbers = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    if len(numbers) == 2 and tuple(numbers) < OLDEST:
        raise HardwareError(
            f"The cluster runs Ray {version}, whose job API is too old.", where=url, fix="Upgrade the cluster's Ray."
        )


@contextmanager
def _faults(url: str, job: str = "", *, first: bool = False) -> Iterator[None]:
    """Turn what Ray's client and `requests` raise into HardwareErrors with a fix. No token is ever quoted.

    Args:
        first: it is not known yet who answers at the URL.
    """
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except _NoSuchJob:
        raise HardwareError(
            f"The cluster knows no job `{job}`: it forgets its jobs when it ends.",
            where=url,
            fix="`guitarfish runs show` shows how far the run came; "
            f"resume it with `guitarfish submit --resume RUN --to {url}`.",
        ) from None
    except AuthenticationError as error:
        raise _not_allowed(url, error.message) from None
    except requests.exceptions.Timeout:
        raise _away(url, f"The dashboard did not answer in {ANSWER_SECONDS:g} s.") from None
    except requests.exceptions.JSONDecodeError:
        raise _no_dashboard(url) from None
    except (requests.exceptions.ConnectionError, ConnectionError) as error:
        text = f"{error} {error.__context__!r} {error.__cause__!r}"  # Ray's client wraps what `requests` raised
        if "SSLError" in text:
            raise HardwareError(
                "No TLS connection: the server does not speak TLS, or its certificate is not trusted.",
                where=url,
                fix="Write http:// for a plain dashboard, or name your own certificates in REQUESTS_CA_BUNDLE.",
            ) from error
        answered = any(word in text for word in ("BadStatusLine", "RemoteDisconnected", "Connection reset"))
        raise (_no_dashboard(url) if first and answered else _away(url, "No Ray dashboard answers.")) from error
    except (requests.exceptions.RequestException, KeyError, TypeError) as error:
        raise _no_dashboard(url) from error


def _not_allowed(url: str, message: str) -> HardwareError:
    """Ray's client has the HTTP status in its message alone: 401 is `...required`, 403 `...failed`."""
    fix = f"Set {TOKEN_VARIABLES}, to the token that the cluster was started with."
    if "required" in message[:40]:
        return _WantsToken("The cluster requires a token (HTTP 401).", where=url, fix=fix)
    if "failed" in message[:40]:
        return HardwareError("The cluster rejects the token it was sent (HTTP 403).", where=url, fix=fix)
    return HardwareError(
        "RAY_AUTH_MODE=token is set, but this machine has no readable token.",
        where=url,
        fix="Set RAY_AUTH_TOKEN_PATH (a file) or RAY_AUTH_TOKEN; without either Ray reads ~/.ray/auth_token.",
    )


def _away(url: str, what: str) -> HardwareError:
    fix = (
        "Check that the cluster is up and its dashboard can be reached from here; `kubectl port-forward` or `ssh -L` "
        "forward a port of another machine."
    )
    return _Away(what, where=url, fix=_port_hint(url) or fix)


def _no_dashboard(url: str) -> HardwareError:
    fix = f"The dashboard's port is {DASHBOARD_PORT} unless the cluster was started with another."
    return HardwareError("The server at this address is not a Ray dashboard.", where=url, fix=_port_hint(url) or fix)


def _port_hint(url: str) -> str:
    kind = OTHER_PORTS.get(port_of(url))
    return f"Port {port_of(url)} is {kind}; the dashboard's is {DASHBOARD_PORT}." if kind else ""
