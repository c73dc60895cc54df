"""The command line as a whole: quick, honest about how it ends, the same through script and module."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from guitarfish.__main__ import run
from guitarfish.commands import VERBS, Verbs
from runspec.errors import GateError, InterruptedRunError, RunFailedError, UserError

ROOT = Path(__file__).parents[3]
HEAVY = ("torch", "ray", "transformers", "vllm", "datasets", "pandas", "numpy", "trl", "peft")
ROOMS = ("registry", "cluster", "runspec")


def start(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "guitarfish", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **more},  # type: ignore[dict-item]
    )


def light_modules() -> list[str]:
    """What must import quickly: the lower rooms, and of the command line what runs before a verb's module is loaded."""
    rooms = [f"{room}.{file.stem}" for room in ROOMS for file in sorted((ROOT / room).glob("*.py"))]
    return ["guitarfish.__main__", "guitarfish.commands", *rooms]


def test_light_rooms_import_nothing_heavy() -> None:
    code = (
        "import importlib, sys\n"
        f"for name in {light_modules()!r}:\n"
        "    importlib.import_module(name)\n"
        f"    found = [heavy for heavy in {HEAVY!r} if heavy in sys.modules]\n"
        "    assert not found, (name, found)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_is_quick() -> None:
    """Under half a second of processor time: what the clock says depends on what else the machine does."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert start("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.5


def test_help_lists_the_verbs_that_are_there() -> None:
    out = start("--help").stdout
    for name in Verbs(name="x").list_commands(None):
        assert f"  {name} " in out
        assert VERBS[name].help in " ".join(out.split())


@pytest.mark.parametrize("verb", Verbs(name="x").list_commands(None))
def test_every_verb_has_help_that_fits_80_columns(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Usage: guitarfish" in out
    assert max(len(line) for line in out.splitlines()) <= 80


def test_version() -> None:
    assert start("--version").stdout.startswith("guitarfish 0.")


def test_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["adaptrs"]) == 2
    assert "Did you mean 'adapters'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("what", where="there", fix="so"), 2),
        (RunFailedError("what", where="there", fix="so"), 1),
        (GateError("what", where="there", fix="so"), 3),
        (InterruptedRunError("what", where="there", fix="so"), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("runspec.schema.json_schema", fail)
    assert run(["schema"]) == code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    if not isinstance(error, KeyboardInterrupt):
        assert "what\n  where: there\n  fix:   so" in err


def test_fault_of_ours_goes_to_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr("runspec.schema.json_schema", fail)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert run(["schema"]) == 1
    err = capsys.readouterr().err
    assert "ZeroDivisionError: a fault" in err
    assert "Traceback" not in err
    log = next((tmp_path / "guitarfish").iterdir())
    assert str(log) in err
    assert "Traceback" in log.read_text()
    monkeypatch.setenv("GUITARFISH_DEBUG", "1")
    assert run(["schema"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_error_as_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(tmp_path / "no.yaml"), "--json"]) == 2
    out, err = capsys.readouterr()
    fault = json.loads(out)["error"]
    assert fault["exit_code"] == 2
    assert fault["what"] in err
    assert fault["where"].endswith("no.yaml")


def test_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m guitarfish schema | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines()[0] == "{"


def test_piped_output_has_no_colour_codes(tmp_path: Path) -> None:
    done = start("runs", "list", "--store", str(tmp_path / "store"), "--help")
    assert "\x1b" not in done.stdout + done.stderr
    done = start("doctor", "--store", str(tmp_path / "store"))
    assert "\x1b" not in done.stdout + done.stderr
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
