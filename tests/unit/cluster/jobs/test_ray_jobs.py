"""Ray's job client against servers that answer as a dashboard may: refusals, silence, a connection that breaks."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import cluster.jobs.ray_jobs
from cluster.jobs.jobs import JobRequest
from cluster.jobs.ray_jobs import RayJobs, message_of
from cluster.machine.ray_address import own_token
from runspec.errors import HardwareError

Answer = tuple[int, str] | None
VERSION = (200, json.dumps({"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": "s"}))


def job(status: str, exit_code: int | None = None, message: str = "") -> Answer:
    details = {"type": "SUBMISSION", "status": status, "entrypoint": "x", "message": message, "submission_id": "run"}
    return 200, json.dumps({**details, "driver_exit_code": exit_code})


def nodes(*addresses: str, gpus: int = 0) -> Answer:
    found = [{"node_ip": one, "state": "ALIVE", "resources_total": {"CPU": 2, "GPU": gpus}} for one in addresses]
    return 200, json.dumps({"result": True, "data": {"result": {"total": len(found), "result": found}}})


@pytest.fixture
def server() -> Iterator[Callable[[Callable[[str], Answer]], str]]:
    """Starts a server that answers each path as it is told; None closes the connection without an answer."""
    running: list[ThreadingHTTPServer] = []

    def start(answer: Callable[[str], Answer]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = answer(self.path)
                if found is None:
                    self.close_connection = True
                    return
                self.send_response(found[0])
                self.end_headers()
                self.wfile.write(found[1].encode())

            do_POST = do_GET

            def log_message(self, *args: object) -> None:
                pass

        made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=made.serve_forever, daemon=True).start()
        running.append(made)
        return f"http://127.0.0.1:{made.server_port}"

    yield start
    for one in running:
        one.shutdown()
        one.server_close()


@pytest.fixture(autouse=True)
def without_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine may have a token of its own."""
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))


def refused(url: str, *fragments: str) -> None:
    with pytest.raises(HardwareError) as caught:
        RayJobs(url)
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "fragments"),
    [
        ((200, "<html>hello</html>"), ["not a Ray dashboard", "8265"]),
        ((200, '{"name": "some other API"}'), ["not a Ray dashboard"]),
        ((200, "[]"), ["not a Ray dashboard"]),
        ((404, "nothing here"), ["not a Ray dashboard"]),
        ((502, "bad gateway"), ["not a Ray dashboard"]),
        ((401, "Unauthorized: Missing authentication token"), ["requires a token", "401", "RAY_AUTH_TOKEN_PATH"]),
        ((403, "Forbidden: Invalid authentication token"), ["rejects the token", "403", "RAY_AUTH_MODE"]),
        ((200, VERSION[1].replace("2.60.0", "1.13.0")), ["Ray 1.13.0", "Upgrade"]),
        (None, ["not a Ray dashboard"]),
    ],
)
def test_who_is_no_dashboard_is_told_apart(
    server: Callable[[Callable[[str], Answer]], str], answer: Answer, fragments: list[str]
) -> None:
    refused(server(lambda path: answer), *fragments)


def test_a_dashboard_that_does_not_answer(
    server: Callable[[Callable[[str], Answer]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = threading.Event()
    monkeypatch.setattr(cluster.jobs.ray_jobs, "ANSWER_SECONDS", 0.2)

    def silent(path: str) -> Answer:
        wait.wait(5)
        return None

    url = server(silent)
    refused(url, "did not answer in 0.2 s", url)
    wait.set()


CONNECT = """
import sys
from cluster.jobs.ray_jobs import RayJobs
from runspec.errors import HardwareError
try:
    print(RayJobs(sys.argv[1]).ray_version)
except HardwareError as error:
    print(error.what)
"""


@pytest.mark.parametrize(
    ("host", "mode", "accepted"),
    [("127.0.0.1", None, True), ("localhost", None, True), ("127.0.0.1", "disabled", False)],
)
def test_a_cluster_on_this_machine_gets_this_machines_token(
    host: str, mode: str | None, accepted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sent to who asks for it, and not before; RAY_AUTH_MODE wins.

    In a process of its own: one that has started Ray keeps that cluster's token and sends it at once.
    """
    headers: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers.append(self.headers["Authorization"])
            status, text = VERSION if headers[-1] == "Bearer planted" else (401, "Unauthorized: Missing token")
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: object) -> None:
            pass

    (tmp_path / "token").write_text("planted\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    if mode is not None:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        done = subprocess.run(
            [sys.executable, "-c", CONNECT, f"http://{host}:{one.server_port}"],
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        one.shutdown()
    assert ("2.60.0" if accepted else "requires a token") in done.stdout
    assert headers[0] is None
    assert ("Bearer planted" in headers) == accepted


def test_a_token_goes_to_no_other_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "planted")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    hosts = ("127.0.0.1", "localhost", "[::1]", "10.0.0.3", "localhost.example.com", "head")
    assert [own_token(f"http://{host}:8265") for host in hosts] == ["planted"] * 3 + [None] * 3


def test_https_at_a_plain_server(server: Callable[[Callable[[str], Answer]], str]) -> None:
    refused(server(lambda path: VERSION).replace("http://", "https://"), "No TLS connection", "Write http://")


def test_the_address_wins_over_the_environment(
    server: Callable[[Callable[[str], Answer]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    assert RayJobs(server(lambda path: VERSION)).ray_version == "2.60.0"


def test_a_cluster_is_here_only_if_all_its_machines_are(server: Callable[[Callable[[str], Answer]], str]) -> None:
    there = nodes("127.0.0.1", "203.0.113.7", gpus=2)
    far = RayJobs(server(lambda path: VERSION if path == "/api/version" else there))
    near = RayJobs(server(lambda path: VERSION if path == "/api/version" else nodes("127.0.0.1")))
    request = JobRequest("run", "s3://bucket/a b", {})
    assert (far.here, far.gpus, near.here) == (False, 4, True)
    assert far.entrypoint(request) == "exec guitarfish train --resume run --store 's3://bucket/a b'"
    assert near.entrypoint(request).endswith("-m guitarfish train --resume run --store 's3://bucket/a b'")


def test_a_cluster_that_has_just_been_started(
    server: Callable[[Callable[[str], Answer]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its dashboard answers before its first machine is listed."""
    monkeypatch.setattr(cluster.jobs.ray_jobs, "LOOK_SECONDS", 0.01)
    coming = [nodes(), nodes(), nodes("127.0.0.1")]
    assert RayJobs(server(lambda path: VERSION if path == "/api/version" else coming.pop(0))).here
    monkeypatch.setattr(cluster.jobs.ray_jobs, "NODE_SECONDS", 0.1)
    empty = RayJobs(server(lambda path: VERSION if path == "/api/version" else nodes()))
    with pytest.raises(HardwareError, match="no live machine"):
        _ = empty.here


def test_a_job_that_is_gone(server: Callable[[Callable[[str], Answer]], str]) -> None:
    jobs = RayJobs(server(lambda path: VERSION if path == "/api/version" else (404, "Job run does not exist")))
    for ask in (lambda: jobs.status("run"), lambda: jobs.cancel("run"), lambda: list(jobs.logs("run", follow=True))):
        with pytest.raises(HardwareError, match="knows no job `run`"):
            ask()


def test_what_ray_cannot_do_is_told_in_its_last_line(server: Callable[[Callable[[str], Answer]], str]) -> None:
    trace = (500, "Traceback (most recent call last):\n  File x\nTimeoutError: no agent\n")
    jobs = RayJobs(server(lambda path: VERSION if path == "/api/version" else trace))
    with pytest.raises(HardwareError) as caught:
        jobs.status("run")
    assert "TimeoutError: no agent" in caught.value.what
    assert "Traceback" not in str(caught.value)


def test_logs_go_on_where_the_connection_broke(
    server: Callable[[Callable[[str], Answer]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines come once each, a half line waits for its end, and the last one needs none."""
    monkeypatch.setattr(cluster.jobs.ray_jobs, "LOOK_SECONDS", 0.0)
    steps: list[tuple[Answer, str]] = [
        (job("PENDING"), ""),
        (job("RUNNING"), "one\ntw"),
        (None, ""),
        (None, ""),
        (job("RUNNING"), "one\ntwo\n"),
        (job("SUCCEEDED", 0), "one\ntwo\nthree"),
    ]
    now: list[tuple[Answer, str]] = []

    def answer(path: str) -> Answer:
        if path == "/api/version":
            return VERSION
        if path.endswith("/logs"):
            return 200, json.dumps({"logs": now[0][1]})
        now[:] = [steps.pop(0)]
        return now[0][0]

    jobs = RayJobs(server(answer))
    assert list(jobs.logs("run", follow=True)) == ["one", "two", "three"]
    assert steps == []


def test_logs_end_when_the_dashboard_stays_away(
    server: Callable[[Callable[[str], Answer]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster.jobs.ray_jobs, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(cluster.jobs.ray_jobs, "AWAY_SECONDS", 0.1)
    jobs = RayJobs(server(lambda path: VERSION if path == "/api/version" else None))
    with pytest.raises(HardwareError, match="No Ray dashboard answers"):
        list(jobs.logs("run", follow=True))


def test_the_second_submission_of_a_run_has_a_name_of_its_own(
    server: Callable[[Callable[[str], Answer]], str],
) -> None:
    taken = [json.loads(str(job("FAILED", 1)[1])) | {"submission_id": name} for name in ("run", "run-2", "other")]  # type: ignore[index]
    jobs = RayJobs(server(lambda path: VERSION if path == "/api/version" else (200, json.dumps(taken))))
    assert jobs._free_name("run") == "run-3"
    assert jobs._free_name("new") == "new"


def test_an_exit_code_is_told_in_words() -> None:
    tail = "Job entrypoint command failed with exit code 3, last available logs:\n secret line of a log"
    assert (
        message_of("failed", 3, tail) == "exit code 3: the gate was not passed; the adapter is kept but not published"
    )
    assert "PATH" in message_of("failed", 127, tail)
    assert message_of("failed", None, "runtime_env setup failed: x\nmore") == "runtime_env setup failed: x"
    assert message_of("running", None, "Job is currently running.") == ""
    assert "killed" in message_of("failed", -9, tail)
