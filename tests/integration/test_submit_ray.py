"""Runs submitted to a real Ray cluster through its job API, which asks for a token: to the end, stopped, taken up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.ports import free_ports
from support.tiny_model import TRAINING, write_rows, write_run_file, write_tiny_model

from cluster.billing.ledger import Ledger
from cluster.jobs.jobs import last_submission
from cluster.store.storage import Store, open_store
from registry.adapters import Registry
from training.run.receipt import Receipt

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
TOKEN = "0123456789abcdef" * 4
READY_SECONDS = 120
PORTS = (
    "port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "metrics-export-port",
    "ray-client-server-port",
)


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster on this machine, and the folder that its runs are submitted from."""

    url: str
    folder: Path

    def guitarfish(self, *arguments: str, expect: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "guitarfish", *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == expect, done.stdout[-3000:] + done.stderr[-3000:]
        assert TOKEN not in done.stdout + done.stderr
        return done

    @property
    def environment(self) -> dict[str, str]:
        """Of a user of this machine who has said nothing of tokens; Ray leaves one in a file."""
        own = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        return {**own, "RAY_AUTH_TOKEN_PATH": str(self.folder / "token")}


def _wait_until_ready(url: str, head: subprocess.Popen[bytes], log: Path) -> None:
    import requests

    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and head.poll() is None:
        try:
            if requests.get(f"{url}/api/version", headers={"authorization": f"Bearer {TOKEN}"}, timeout=5).ok:
                return
        except requests.exceptions.RequestException:
            pass
        time.sleep(0.5)
    pytest.fail(f"Ray did not start:\n{log.read_text(errors='replace')[-3000:]}")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """`ray start --head`, ended by the ids of its own processes. Its temporary folder needs a short path: sockets lie
    in it."""
    folder = tmp_path_factory.mktemp("submit")
    write_tiny_model(folder / "model")
    write_rows(folder / "rows.jsonl")
    (folder / "token").write_text(TOKEN)
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    log = folder / "ray.log"
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="gf-", ignore_cleanup_errors=True) as temporary, log.open("wb") as output:
        command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--num-cpus=2"]
        command += ["--num-gpus=0", "--disable-usage-stats"]
        command += ["--object-store-memory=100000000", f"--temp-dir={temporary}"]
        head = subprocess.Popen(
            [*command, *(f"--{name}={port}" for name, port in ports.items())],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            url = f"http://127.0.0.1:{ports['dashboard-port']}"
            _wait_until_ready(url, head, log)
            yield Cluster(url, folder)
        finally:
            _end(head)


def _end(head: subprocess.Popen[bytes]) -> None:
    mine = psutil.Process(head.pid).children(recursive=True) if head.poll() is None else []
    head.terminate()
    try:
        head.wait(5)
    except subprocess.TimeoutExpired:
        head.kill()
        head.wait()
    _, left = psutil.wait_procs(mine, timeout=5)
    for process in left:
        process.kill()


def wait_for(what: Callable[[], Any], seconds: float = 240) -> Any:
    """What `what` gives as soon as that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.2)
    raise AssertionError(f"did not come about in {seconds} s")


STEPS = 150
"""Enough to be stopped amid them: a command takes as long as fifty."""


@pytest.mark.soak
def test_a_run_is_submitted_stopped_and_taken_up_to_the_registry(cluster: Cluster) -> None:
    store = open_store(str(cluster.folder / "store"))
    run_id = _submit(cluster, store)
    in_store = ("--store", store.uri)
    again = cluster.guitarfish("submit", "--resume", run_id, "--to", cluster.url, *in_store, expect=2)
    assert "is already running" in again.stderr
    _look_and_turn_away(cluster, run_id, store.uri)
    wait_for(lambda: any(attempt.step > 2 for attempt in Ledger(store, run_id).attempts()))
    assert "asked job" in cluster.guitarfish("jobs", "cancel", run_id, *in_store).stderr
    followed = cluster.guitarfish("jobs", "logs", run_id, "--follow", *in_store, expect=130)
    assert f"-m guitarfish train --resume {run_id}" in followed.stdout
    assert "stopping after this step, with a checkpoint" in followed.stdout
    (stopped,) = Ledger(store, run_id).attempts()
    assert stopped.outcome == "interrupted"
    assert 2 < stopped.step < STEPS
    checkpoints = [path for path in store.walk(f"runs/{run_id}/checkpoints") if path.endswith("trainer_state.json")]
    assert store.read_json(checkpoints[-1])["global_step"] == stopped.step

    done = cluster.guitarfish("submit", "--resume", run_id, "--to", cluster.url, *in_store, "--follow", "--json")
    answer = json.loads(done.stdout)
    assert answer["submission"]["job"] == f"{run_id}-2"
    assert answer["status"] == {"state": "succeeded", "message": "", "exit_code": 0}
    _check_finished(cluster, store, run_id)


def _submit(cluster: Cluster, store: Store) -> str:
    """Submit a run, after a dry run that writes nothing."""
    run_file = write_run_file(
        cluster.folder,
        store=store.uri,
        labels={"team": "search"},
        hardware={"workers": 1, "accelerator": "cpu", "cpus_per_worker": 1},
        training=TRAINING | {"max_steps": STEPS, "checkpoint_every_steps": STEPS},
        evaluation={"rows": 6, "max_new_tokens": 2, "few_shot": 0, "general": None, "scorers": [{"kind": "loss"}]},
    )
    dry = cluster.guitarfish("submit", str(run_file), "--to", cluster.url, "--dry-run", "--json")
    assert json.loads(dry.stdout)["entrypoint"].startswith(f"exec {sys.executable} -m guitarfish train --resume tiny-")
    assert store.walk() == []
    submitted = json.loads(cluster.guitarfish("submit", str(run_file), "--to", cluster.url, "--json").stdout)
    assert last_submission(store, submitted["run_id"]).job == submitted["run_id"]
    return str(submitted["run_id"])


def _check_finished(cluster: Cluster, store: Store, run_id: str) -> None:
    """The run is published and accounted for, and no record holds the token."""
    receipt = Receipt.model_validate_json(store.read(f"runs/{run_id}/receipt.json"))
    assert receipt.outcome == "published"
    assert receipt.plan is not None
    assert Registry(store).resolve("tiny").version == 1
    attempts = Ledger(store, run_id).attempts()
    assert [attempt.outcome for attempt in attempts] == ["interrupted", "finished"]
    assert [attempt.recomputed_steps for attempt in attempts] == [0, 0]
    assert all(attempt.cost_usd > 0 for attempt in attempts)
    for path in store.walk(f"runs/{run_id}"):
        assert TOKEN.encode() not in store.read(path), path
    status = cluster.guitarfish("jobs", "status", run_id, "--store", store.uri)
    assert f"{run_id}: succeeded" in status.stdout.replace("\n", "")
    assert "interrupted, finished" in status.stdout


def _look_and_turn_away(cluster: Cluster, run_id: str, store: str) -> None:
    """Ctrl-C at a command that follows a job ends the command alone."""
    watching = subprocess.Popen(
        [sys.executable, "-m", "guitarfish", "jobs", "logs", run_id, "--follow", "--store", store],
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert watching.stdout is not None
        assert any("Running entrypoint" in line for line in watching.stdout)
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=60)
    finally:
        watching.kill()
    assert watching.returncode == 130
    assert f"{run_id} is still running" in err
    assert "Traceback" not in err
    status = json.loads(cluster.guitarfish("jobs", "status", run_id, "--store", store, "--json").stdout)
    assert status["status"]["state"] == "running"


def test_a_wrong_token_is_refused_and_not_repeated(cluster: Cluster) -> None:
    run_file = write_run_file(cluster.folder, store=str(cluster.folder / "refused"))
    for environment, fragment in (
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f00d" * 16}, "rejects the token"),
        ({"RAY_AUTH_MODE": "disabled"}, "requires a token"),
    ):
        done = cluster.guitarfish("submit", str(run_file), "--to", cluster.url, expect=2, **environment)
        assert fragment in done.stderr
        assert "RAY_AUTH_TOKEN_PATH" in done.stderr
        assert "f00d" not in done.stderr
    assert not (cluster.folder / "refused").exists()
