"""What a pod does before it ends, on real processes: the driver gets SIGTERM, and its checkpoint is waited for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.jobs.jobs import JobRequest
from cluster.jobs.pod_end import is_busy, is_driver, main

DRIVER = """\
import pathlib, signal, sys, time
def stop(number, frame):
    time.sleep(0.7)
    pathlib.Path(sys.argv[0]).with_name("checkpoint").touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process with a driver's command line, which needs 0.7 s for its checkpoint."""
    program = tmp_path / "bin" / "guitarfish"
    program.parent.mkdir()
    program.write_text(DRIVER)
    command = [sys.executable, str(program), *JobRequest("run-1", "s3://b", {}).command[1:]]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()


def only_this(monkeypatch: pytest.MonkeyPatch, *pids: int) -> None:
    """This machine may run other drivers; a container's processes are its own."""
    import psutil

    monkeypatch.setattr(psutil, "pids", lambda: list(pids))


def test_the_head_tells_the_driver_and_waits_for_its_checkpoint(
    driver: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_this(monkeypatch, driver.pid, os.getpid())
    began = time.monotonic()
    assert main(["head", "10"]) == 0
    assert 0.5 < time.monotonic() - began < 9
    assert (tmp_path / "bin" / "checkpoint").exists()
    assert driver.wait() == 130


def test_a_driver_that_does_not_end_is_not_waited_for_for_ever(
    driver: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    only_this(monkeypatch, driver.pid)
    assert main(["head", "0.1"]) == 1


def test_a_worker_waits_for_what_ray_does_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen(["bash", "-c", "exec -a ray::TrainWorker sleep 3"])
    try:
        while not Path(f"/proc/{child.pid}/cmdline").read_bytes().startswith(b"ray::"):  # bash has it as an argument
            time.sleep(0.01)
        only_this(monkeypatch, child.pid)
        assert main(["worker", "0.1"]) == 1
        child.wait()
        assert main(["worker", "0.1"]) == 0
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    ("command", "driver"),
    [
        ("/opt/venv/bin/python /opt/venv/bin/guitarfish train --resume r --store s3://b", True),
        ("guitarfish train --store s3://b --resume r", True),
        ("/bin/sh -c guitarfish_train_--resume_r", False),
        ("python /opt/venv/bin/guitarfish serve run.yaml", False),
        ("vim guitarfish train --resume", True),  # nobody edits in a pod: it is a name that begins so
        ("", False),
    ],
)
def test_which_process_is_the_driver(command: str, driver: bool) -> None:
    assert is_driver(command.split()) is driver


def test_which_process_is_at_work() -> None:
    assert is_busy("ray::TrainWorker.run")
    assert not is_busy("ray::IDLE")
    assert not is_busy("ray::DashboardAgent")
    assert not is_busy("/usr/bin/python raylet")
