"""SIGTERM, which a cluster sends, ends a run well, though ray.init puts a handler of its own in place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHILD = """\
import os, signal, sys, time
from pathlib import Path
from cluster.machine.hardware import detect
from cluster.billing.prices import price_of
from cluster.store.storage import open_store
from runspec.errors import InterruptedRunError
from runspec.load import load_run, resolved
from runspec.strategy import Ddp
from training.run.driver import drive
from training.run.run_folder import TrainingFolder

def stages(run):
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)
    while not run.stop_requested():
        time.sleep(0.1)
    print("a checkpoint was written", flush=True)
    raise InterruptedRunError("Stopped as you asked.")

spec = resolved(load_run(sys.argv[1]))
try:
    drive(TrainingFolder(open_store(spec.store), "run-1"), spec, Ddp(), stages, hardware=detect(),
          price=price_of(detect(), 1, 1.0), show=lambda event: None)
except InterruptedRunError as error:
    print("interrupted", flush=True)
"""


def test_sigterm_twice_is_one_wish_to_stop(tmp_path: Path) -> None:
    run_file = tmp_path / "run.yaml"
    run_file.write_text(
        "name: tiny\nstrategy: {kind: ddp}\nhardware: {accelerator: cpu}\n"
        "model: {source: {kind: hub, id: a/b}}\ndata: {source: {kind: file, path: data.jsonl}}\n"
    )
    command = [sys.executable, "-c", CHILD, str(run_file)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == ["a checkpoint was written", "interrupted"], done.stderr[-2000:]
    records = [file.read_text() for file in (tmp_path / "store" / "runs" / "run-1").rglob("*.json")]
    assert any('"interrupted"' in record for record in records)
