"""The README's one command, on fewer steps and rows: data, training, measuring, publishing, serving, asking."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support.demo import FEWER

from cluster.store.runs import list_runs
from cluster.store.storage import open_store
from registry.adapters import Registry
from training.run.receipt import Receipt

ROOT = Path(__file__).parents[2]


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_make_demo_ends_with_base_and_tuned_model_side_by_side(tmp_path: Path) -> None:
    store = tmp_path / "store"
    flags = " ".join(f"--set '{key}={value}'" for key, value in {**FEWER, "store": str(store)}.items())
    done = subprocess.run(
        ["make", "demo", f"DEMO_FLAGS={flags}"],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=1100,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "gate passed" in done.stdout
    (run,) = list_runs(open_store(str(store)))
    receipt = Receipt.model_validate_json(open_store(str(store)).read(f"runs/{run.run_id}/receipt.json"))
    assert receipt.outcome == "published"
    assert receipt.usd > 0
    assert receipt.evaluation.tuned["loss"].mean < receipt.evaluation.base["loss"].mean - 0.5
    assert Registry(open_store(str(store))).resolve("smart-home").version == 1
    asked = done.stdout.partition("$ guitarfish ask base smart-home")[2].partition("$ guitarfish runs show")[0]
    heading, answers = asked.strip().splitlines()[1:3]
    assert heading.split() == ["base", "smart-home"]
    tuned = answers[heading.index("smart-home") :]
    assert tuned.startswith('{"')
    assert not answers.startswith('{"')
    assert receipt.run_id in done.stdout.partition("$ guitarfish runs show")[2]
