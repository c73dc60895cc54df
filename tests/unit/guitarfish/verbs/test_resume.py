"""Resuming a run or a search: what is damaged or finished is found before Ray starts and before anything is paid."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.stored_runs import StoredRun, right, wrong

from cluster.store.storage import open_store
from guitarfish.__main__ import run
from training.run.results import TrialRecord
from tuning.records import Curve, SearchRecord
from tuning.space import trial_spec, trials_of

NOBODY = "http://127.0.0.1:9"
RECORDS = [
    "spec.json",
    "plan.json",
    "data/summary.json",
    "evaluation/before.json",
    "training.json",
    "evaluation/after.json",
    "evaluation/result.json",
    "publication.json",
    "receipt.json",
]


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoredRun:
    monkeypatch.chdir(tmp_path)
    return StoredRun(open_store(str(tmp_path / "store")), tmp_path)


def damage(stored: StoredRun, name: str, run_id: str = "") -> str:
    """Replace a record, and give its place in the store."""
    file = stored.folder / "store" / "runs" / (run_id or stored.run_id) / name
    assert file.exists()
    file.write_text('{"nonsense": 1}')
    return str(file)


def attempts(stored: StoredRun) -> list[str]:
    return [path for path in stored.store.walk("runs") if "/attempts/" in path]


def refused(stored: StoredRun, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The command line is refused with exit code 2, and no attempt is begun."""
    before = attempts(stored)
    code = run([*arguments, "--store", stored.store.uri])
    err = capsys.readouterr().err
    assert code == 2, err
    assert "Traceback" not in err
    assert attempts(stored) == before
    return err


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("verb", [["train"], ["submit", "--to", NOBODY]], ids=["train", "submit"])
def test_a_damaged_record_of_a_run(
    verb: list[str], name: str, stored: StoredRun, capsys: pytest.CaptureFixture[str]
) -> None:
    stored.whole()
    place = damage(stored, name)
    err = refused(stored, [*verb, "--resume", stored.run_id], capsys)
    assert f"The record runs/{stored.run_id}/{name} is damaged: " in err
    assert f"where: {place}" in err
    assert "fix:   Restore the file from a backup, or start a new run." in err


@pytest.mark.parametrize(
    ("name", "trial"),
    [
        ("spec.json", False),
        ("search.json", False),
        ("data/summary.json", False),
        ("evaluation/before.json", False),
        ("training.json", True),
        ("curve.json", True),
        ("evaluation/result.json", True),
    ],
)
def test_a_damaged_record_of_a_search(
    name: str, trial: bool, stored: StoredRun, capsys: pytest.CaptureFixture[str]
) -> None:
    tuning = {"ranks": [2], "learning_rates": {"kind": "list", "values": [1e-3]}}
    stored.values = {"tuning": tuning, "hardware__workers": 1}
    stored.begin(plan=False, kind="search").measured_before()
    stored.write("search.json", SearchRecord(run_file="run.yaml", folder=".", written={}))
    first = StoredRun(stored.store, stored.folder, run_id=f"{stored.run_id}-t00")
    (one,) = trials_of(stored.spec)
    first.spec, first.before = trial_spec(stored.spec, one), stored.before
    first.write("spec.json", first.spec)
    first.write("trial.json", TrialRecord(search=stored.run_id, **vars(one)))
    first.write("curve.json", Curve(pruned=False, steps=[1], losses=[1.0]))
    first.examples = stored.examples  # type: ignore[method-assign]
    first.trained().measured_after()
    place = damage(stored, name, first.run_id if trial else "")
    err = refused(stored, ["tune", "--resume", stored.run_id], capsys)
    assert f"{name} is damaged: " in err
    assert f"where: {place}" in err
    assert "fix:   Restore the file from a backup, or start a new run." in err


@pytest.mark.parametrize("more", [[], ["--budget", "0.0000001"]])
def test_a_finished_run_prints_its_receipt_and_adds_no_attempt(
    more: list[str], stored: StoredRun, capsys: pytest.CaptureFixture[str]
) -> None:
    stored.whole()
    before = attempts(stored)
    assert run(["train", "--resume", stored.run_id, "--store", stored.store.uri, "--json", *more]) == 0
    receipt = json.loads(capsys.readouterr().out)
    assert (receipt["run_id"], receipt["outcome"]) == (stored.run_id, "published")
    assert receipt["places"]["report"] == f"{stored.store.uri}/runs/{stored.run_id}/report.html"
    assert attempts(stored) == before


def test_a_finished_run_that_did_not_pass_its_gate_exits_as_it_did(
    stored: StoredRun, capsys: pytest.CaptureFixture[str]
) -> None:
    stored.whole(before=right, after=wrong)
    before = attempts(stored)
    assert run(["train", "--resume", stored.run_id, "--store", stored.store.uri]) == 3
    assert "The gate was not passed" in capsys.readouterr().err
    assert attempts(stored) == before


def test_a_finished_run_is_not_submitted_again(stored: StoredRun, capsys: pytest.CaptureFixture[str]) -> None:
    stored.whole()
    dashboard = ["--to", "k8s"]
    err = refused(stored, ["submit", "--resume", stored.run_id, *dashboard], capsys)
    assert f"{stored.run_id} has finished." in err
    assert f"guitarfish runs show {stored.run_id}" in err


@pytest.mark.parametrize(("verb", "what"), [("train", "run"), ("tune", "search")])
def test_a_run_file_is_not_resumed(verb: str, what: str, stored: StoredRun, capsys: pytest.CaptureFixture[str]) -> None:
    stored.begin()
    err = refused(stored, [verb, "other.yaml", "--resume", stored.run_id], capsys)
    assert f"A run file cannot be given with --resume: the {what} keeps the one it started with." in err
    assert f"where: other.yaml --resume {stored.run_id}" in err
    assert "fix:   Remove other.yaml" in err


OPENED: list[str] = []
WATCHED: list[str] = []


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if WATCHED and event == "open" and str(arguments[0]).endswith(WATCHED[0]):
        OPENED.append(str(arguments[0]))


sys.addaudithook(_watch)


@contextmanager
def opened(name: str) -> Iterator[list[str]]:
    """Collects each time that a file of this name is opened."""
    OPENED.clear()
    WATCHED.append(name)
    yield OPENED
    WATCHED.clear()


@pytest.mark.parametrize(
    "arguments", [["train"], ["evaluate", "--adapter", "homes@1"], ["pairs", "--out", "pairs"], ["tune"]]
)
def test_the_run_file_is_read_once(arguments: list[str], stored: StoredRun, capsys: pytest.CaptureFixture[str]) -> None:
    """Up to the data, which is missing: by then it was read twice."""
    stored.store.create("adapters/homes/versions/1/card.json", b"{}")
    (stored.folder / "once.yaml").write_text(
        f"name: homes\nstore: {stored.store.uri}\nmodel: {{source: {{kind: hub, id: some/model}}}}\n"
        "data: {source: {kind: file, path: nowhere.jsonl}}\ntuning: {}\n"
    )
    with opened("once.yaml") as found:
        assert run([arguments[0], "once.yaml", *arguments[1:]]) == 2
    assert "nowhere.jsonl" in capsys.readouterr().err
    assert len(found) == 1
