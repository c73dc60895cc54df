"""The preStop hook of a run's pods (`python -m cluster.jobs.pod_end ROLE SECONDS`): stops the driver with a checkpoint.

Kubernetes signals only the first process of a container. That is `ray start`, which kills everything below it at once;
KubeRay does not stop the driver before it suspends a job, and leaves that to such a hook.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Sequence

import psutil

POLL_SECONDS = 0.5
DRIVER = ("guitarfish", "train", "--resume")
"""Words of the driver's command line, see `cluster.jobs.jobs.JobRequest`."""
IDLE = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")


def drivers() -> list[psutil.Process]:
    """The drivers of runs in this container, without the shells that Ray started them with."""
    return [process for process in psutil.process_iter(["cmdline"]) if is_driver(process.info["cmdline"] or [])]


def is_driver(command: Sequence[str]) -> bool:
    """Whether this is a driver's command line: `python .../guitarfish train --resume RUN`, for one."""
    words = [word.rsplit("/", 1)[-1] for word in command]
    program = next((place for place, word in enumerate(words[:4]) if word == DRIVER[0]), None)
    return program is not None and set(DRIVER[1:]) <= set(words[program:])


def workers() -> list[psutil.Process]:
    """Ray's workers in this container that are busy. Ray writes what they do into their titles."""
    return [process for process in psutil.process_iter(["cmdline"]) if is_busy(" ".join(process.info["cmdline"] or []))]


def is_busy(title: str) -> bool:
    return title.startswith("ray::") and not title.startswith(IDLE)


def stop_driver(seconds: float) -> bool:
    """Send SIGTERM to the drivers, which ends a run at its next step with a checkpoint, and wait for them."""
    for process in drivers():
        try:
            process.send_signal(signal.SIGTERM)
        except psutil.NoSuchProcess:
            continue
    return _gone(drivers, seconds)


def wait_for_workers(seconds: float) -> bool:
    """Wait until this pod's workers are idle or gone: the driver ends them."""
    return _gone(workers, seconds)


def _gone(find: Callable[[], list[psutil.Process]], seconds: float) -> bool:
    ends = time.monotonic() + seconds
    while find():
        if time.monotonic() > ends:
            return False
        time.sleep(POLL_SECONDS)
    return True


def main(arguments: Sequence[str]) -> int:
    """0 when all ended in time, else 1."""
    role, seconds = arguments
    well = stop_driver(float(seconds)) if role == "head" else wait_for_workers(float(seconds))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
