"""`guitarfish report` through the command line: what it writes and prints, and every way it can be refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.report_pages import Page
from support.stored_runs import StoredRun

from guitarfish.__main__ import run as guitarfish
from guitarfish.verbs import report

Make = Callable[..., StoredRun]
RUN = "homes-20261124-120000-abcd"


@pytest.fixture
def whole(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoredRun:
    """A finished run, seen from the folder that its store is in."""
    monkeypatch.chdir(tmp_path)
    return make().whole()


def test_it_writes_a_page_named_after_the_run(whole: StoredRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert guitarfish(["report", "homes"]) == 0
    assert capsys.readouterr().out.strip() == f"{RUN}.html"
    first = Path(f"{RUN}.html").read_text(encoding="utf-8")
    assert Page(first).dangers() == []
    assert guitarfish(["report", RUN]) == 0, "a report is replaced"


def test_json_has_the_numbers(whole: StoredRun, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert guitarfish(["report", RUN, "--out", "new/folder/a.html", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["report"] == "new/folder/a.html"
    assert (tmp_path / "new/folder/a.html").is_file()
    assert (told["passed"], told["metric"], told["kind"], told["state"]) == (True, "exact_match", "train", "finished")
    assert (told["before"]["mean"], told["after"]["mean"], told["gain"]["mean"]) == (0.0, 1.0, 1.0)
    assert told["cost_usd"] == pytest.approx(0.18)
    assert told["verdict"].startswith("Published as homes@3.")


def damage(path: str, text: str) -> Callable[[Path], list[str]]:
    """A file of the run with other content."""

    def change(folder: Path) -> list[str]:
        (folder / "store/runs" / RUN / path).write_text(text)
        return [RUN]

    return change


def another_run(folder: Path) -> list[str]:
    (folder / "store/runs/homes-20261124-130000-ffff").mkdir()
    return ["homes-2026"]


def a_page_of_others(folder: Path) -> list[str]:
    (folder / "mine.html").write_text("<!DOCTYPE html><title>mine</title>")
    return [RUN, "--out", "mine.html"]


def the_default_name_is_taken(folder: Path) -> list[str]:
    (folder / f"{RUN}.html").write_text("notes of mine")
    return [RUN]


BAD: dict[str, tuple[Callable[[Path], list[str]], list[str]]] = {
    "no such run": (lambda folder: ["hones"], ["No run named 'hones'.", f"Did you mean {RUN}"]),
    "no run at all": (lambda folder: [""], ["No run named ''."]),
    "several runs": (another_run, ["2 runs begin with 'homes-2026'", "Name one of them"]),
    "no store": (lambda folder: [RUN, "--store", "elsewhere"], ["This store has no runs"]),
    "a store that is a file": (lambda folder: [RUN, "--store", "rows.jsonl"], ["is a file; a store is a folder"]),
    "a store of a kind that is none": (lambda folder: [RUN, "--store", "ftp://host/x"], ["cannot hold a store"]),
    "out is a folder": (lambda folder: [RUN, "--out", "store"], ["store is a folder.", f"--out store/{RUN}.html"]),
    "out is below a file": (lambda folder: [RUN, "--out", "rows.jsonl/a.html"], ["rows.jsonl is a file"]),
    "out cannot be written": (lambda folder: [RUN, "--out", "/proc/a.html"], ["Cannot write /proc/a.html"]),
    "out is somebody else's": (a_page_of_others, ["mine.html already exists and is not a guitarfish report"]),
    "the default name is taken": (the_default_name_is_taken, [f"{RUN}.html already exists"]),
    "receipt is no JSON": (damage("receipt.json", "{"), ["receipt.json is damaged", "EOF", "Restore the file"]),
    "receipt lacks a key": (damage("receipt.json", "{}"), ["receipt.json", "Field required"]),
    "result is something else": (damage("evaluation/result.json", "[]"), ["evaluation/result.json is damaged"]),
    "result is not text": (damage("evaluation/after.json", "\x00"), ["evaluation/after.json is damaged"]),
    "spec of another version": (damage("spec.json", '{"naem": 1}'), ["spec.json is damaged", "Restore the file"]),
    "summary is a list": (damage("data/summary.json", "[1]"), ["data/summary.json is damaged"]),
    "rows are cut short": (damage("data/holdout.jsonl", '{"messages": ['), ["data/holdout.jsonl is damaged"]),
    "trainer's log is odd": (
        damage(
            "checkpoints/checkpoint_2026-11-24_12-00-00.000000/trainer_state.json", '{"log_history": [{"loss": 1}]}'
        ),
        ["trainer_state.json is damaged", "KeyError"],
    ),
    "ledger is damaged": (damage("attempts/1/1.json", "{}"), ["attempts/1/1.json is damaged", "Move the file away"]),
    "plan is damaged": (damage("plan.json", '{"why": 3}'), ["plan.json is damaged"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, whole: StoredRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare, said = BAD[case]
    arguments = prepare(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.glob("*.html")}
    assert guitarfish(["report", *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "Traceback" not in told.err
    flat = " ".join(told.err.split())
    for part in said:
        assert part in flat, told.err
    assert {file: file.read_bytes() for file in tmp_path.glob("*.html")} == before, "nothing was written"


def test_an_error_is_json_where_json_was_asked_for(whole: StoredRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert guitarfish(["report", "hones", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 2


SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAPLANTEDKEY",
    "AWS_SECRET_ACCESS_KEY": "planted-secret-1",
    "AWS_SESSION_TOKEN": "planted-secret-2",
    "HF_TOKEN": "hf_plantedsecret3",
    "GUITARFISH_API_KEY": "planted-secret-4",
    "OPENAI_API_KEY": "planted-secret-5",
}


def test_nothing_of_the_environment_is_in_a_report(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    run = make().whole()
    assert guitarfish(["report", RUN, "--store", run.store.uri, "--out", str(tmp_path / "a.html")]) == 0
    html = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert [value for value in SECRETS.values() if value in html] == []
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "planted-secret-1"


def test_a_report_is_kept_with_its_run_once(whole: StoredRun) -> None:
    place = report.keep_report(whole.store, RUN)
    assert place == f"{whole.store.uri}/runs/{RUN}/report.html"
    first = whole.store.read(f"runs/{RUN}/report.html")
    assert b"Published as homes@3" in first
    assert report.keep_report(whole.store, RUN) == place
    assert whole.store.read(f"runs/{RUN}/report.html") == first


def test_a_report_that_cannot_be_made_is_a_warning(
    whole: StoredRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store/runs" / RUN / "receipt.json").write_text("{")
    assert report.keep_report(whole.store, RUN) is None
    told = " ".join(capsys.readouterr().err.split())
    assert "warning: the report could not be made" in told
    assert f"guitarfish report {RUN}" in told
    assert not whole.store.exists(f"runs/{RUN}/report.html")
