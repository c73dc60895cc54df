"""scripts/setup.py: what it decides, without installing anything."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def setup() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("guitarfish_setup", ROOT / "scripts" / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("version", [(3, 8), (3, 10), (3, 14)])
def test_python_that_the_locks_do_not_cover(setup: ModuleType, version: tuple[int, int]) -> None:
    with pytest.raises(setup.SetupError, match=r"make setup PYTHON="):
        setup.check_python(version)


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_python_that_they_cover(setup: ModuleType, version: tuple[int, int]) -> None:
    setup.check_python(version)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [("echo 'GPU 0: NVIDIA H200'", "gpu"), ("echo 'No devices were found'", "cpu"), ("exit 9", "cpu")],
)
def test_lock_follows_nvidia_smi(
    setup: ModuleType, answer: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("GUITARFISH_LOCK", raising=False)
    assert setup.kind_of_machine() == kind
    monkeypatch.setenv("GUITARFISH_LOCK", "cpu")
    assert setup.kind_of_machine() == "cpu"


def test_stamp_follows_lock_and_project(setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text("a")
    (tmp_path / "cpu.txt").write_text("b")
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    before = setup.fingerprint(tmp_path / "cpu.txt")
    assert setup.fingerprint(tmp_path / "cpu.txt") == before
    (tmp_path / "cpu.txt").write_text("c")
    after = setup.fingerprint(tmp_path / "cpu.txt")
    (tmp_path / "pyproject.toml").write_text("d")
    assert len({before, after, setup.fingerprint(tmp_path / "cpu.txt")}) == 3


def test_full_disk_is_said_before(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(setup.FREE_GIB, "cpu", 10**9)
    with pytest.raises(setup.SetupError, match="free some space"):
        setup.check_disk("cpu")


@pytest.mark.parametrize(
    ("output", "fix"),
    [
        ("error: error sending request for url", "HTTPS_PROXY"),
        ("  Caused by: dns error: failed to lookup", "HTTPS_PROXY"),
        ("No space left on device (os error 28)", "disk is full"),
        ("Failed to build `x==1`", "C compiler"),
        ("Hash mismatch for `x==1`", "uv cache clean"),
        ("something else", "call set-up again"),
    ],
)
def test_failures_are_explained(setup: ModuleType, output: str, fix: str) -> None:
    assert fix in setup.explain(["uv"], output)


def test_failed_download_is_tried_once_more(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup.time, "sleep", lambda seconds: None)
    mark = tmp_path / "mark"
    command = ["sh", "-c", f"test -e {mark} && exit 0; touch {mark}; exit 1"]
    setup.download(command)
    assert "trying once more" in capsys.readouterr().out
    with pytest.raises(setup.SetupError, match="failed twice"):
        setup.download(["sh", "-c", "exit 1"])


def test_uv_version(setup: ModuleType, tmp_path: Path) -> None:
    program = tmp_path / "uv"
    program.write_text("#!/bin/sh\necho 'uv 0.13.9 (abc 2026-11-01)'\n")
    program.chmod(0o755)
    assert setup.uv_version(str(program)) == (0, 13, 9)
    assert setup.uv_version(str(tmp_path / "none")) == (0,)


def test_pins_agree_with_the_locks(setup: ModuleType) -> None:
    assert setup.count(ROOT / "locks" / "cpu.txt") > 100
    assert f"torch=={setup.torch_version()} " in (ROOT / "locks" / "gpu.txt").read_text()
    assert "\ntorch==" not in (ROOT / "locks" / "cpu.txt").read_text()


def test_nothing_to_do_is_quick() -> None:
    """The question whether all is installed starts one Python without site-packages."""
    began = time.process_time()
    command = [sys.executable, "-S", str(ROOT / "scripts" / "setup.py"), "--current"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1)
    assert done.stdout == ""
    assert time.process_time() - began < 0.3
