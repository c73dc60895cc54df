"""Where a worker's output goes: into a log file, not to the user's terminal."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path

from cluster.machine.cache import cache_folder


def logs_folder(run_id: str) -> Path:
    return cache_folder("logs", run_id)


def redirect_output(file: Path) -> None:
    """Append this process's stdout, stderr, logging and warnings to `file`, including native code's."""
    stream = file.open("a", buffering=1)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    sys.stdout = sys.stderr = stream
    logging.basicConfig(stream=stream, level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s", force=True)
    for room in ("training", "cluster", "registry"):
        logging.getLogger(room).setLevel(logging.INFO)
    logging.captureWarnings(True)
    warnings.simplefilter("default")


def tail(file: Path, lines: int = 15) -> list[str]:
    """The last lines of a log file; none if it is not on this machine."""
    if not file.is_file():
        return []
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - 64 * 1024))
        return stream.read().decode(errors="replace").splitlines()[-lines:]
