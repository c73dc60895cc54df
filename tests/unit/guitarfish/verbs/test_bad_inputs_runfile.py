"""Bad run files: each is refused with its place and the way out, exit code 2, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.command_line import GOOD, refused


@pytest.mark.parametrize(
    ("text", "override", "fragments"),
    [
        (
            "lora:\n  rnak: 8\n",
            "seed=1",
            ["error: Unknown key `lora.rnak`.", "run.yaml:7:3, key lora.rnak", "`lora.rank`?"],
        ),
        (
            "lora: {dora: true}\n",
            "seed=1",
            ["vLLM cannot serve DoRA.", "fix:   Set `lora.dora: false` or `publish: null`."],
        ),
        (
            "",
            "lroa.rank=3",
            ["Unknown key `lroa`.", "where: --set lroa.rank=3, key lroa", "fix:   Did you mean `lora`?"],
        ),
        (
            "lora: {rank: 0, dora: yes}\nlr: 1\n",
            "seed=1",
            ["3 problems", "1. `lora.rank`", "2. `lora.dora`", "3. Unknown key"],
        ),
    ],
)
def test_what_the_command_line_shows(
    text: str, override: str, fragments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text(GOOD + text)
    refused(capsys, ["check", str(tmp_path / "run.yaml"), "--set", override], fragments)


def test_missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, ["check", str(tmp_path / "no" / "run.yaml")], ["not found", "does not exist either"])


@pytest.mark.parametrize(
    ("text", "arguments", "fragment"),
    [
        (GOOD + "lora: {rnak: 8}\n", ["check", "run.yaml"], "Did you mean `lora.rank`?"),
        (GOOD, ["check", "run.yaml", "--set", "lora.rank=x"], "--set lora.rank=x"),
        (GOOD, ["check", "run.yaml", "--bogus"], "--bogus"),
        (GOOD, ["chekc", "run.yaml"], "check"),
        (GOOD, ["check"], "RUN.yaml"),
    ],
)
def test_through_the_real_process(text: str, arguments: list[str], fragment: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "guitarfish", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
    )
    assert done.returncode == 2
    assert fragment in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
