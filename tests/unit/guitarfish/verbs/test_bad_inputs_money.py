"""Bad input around budgets and bills: each is refused with its place and the way out, and no traceback."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from support.command_line import refused

from cluster.billing.ledger import Ledger
from cluster.billing.prices import Price
from cluster.machine.hardware import detect
from cluster.store.storage import open_store
from guitarfish.__main__ import run
from runspec.load import load_run, resolved

GOOD = """\
name: my-run
labels: {team: search}
model:
  source: {kind: hub, id: some/model}
data:
  source: {kind: file, path: data.jsonl}
"""
RUN = "my-run-20261124-120000-abcd"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run file, and a store with a run that has cost $0.10 of the $0.08 that it may."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(GOOD)
    store, spec = open_store("store"), resolved(load_run(tmp_path / "run.yaml"))
    store.create(f"runs/{RUN}/spec.json", spec.model_dump_json().encode())
    store.create(f"runs/{RUN}/data/summary.json", b'{"layout": "prompt", "funnel": [], "digest": "x", "notes": []}')
    price = Price(usd_per_hour=3.6, source="run file", date=date(2026, 11, 24))
    writer = Ledger(store, RUN).start(detect(), workers=1, price=price, budget_usd=0.08)
    writer.end("over_budget", reason="the budget was spent", step=5, tokens=10, seconds={"training": 100})
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["nothing-like-it"], ["No run named 'nothing-like-it'.", RUN]),
        (["my-run", "--label", "team=search"], ["--label cannot be used with one run, my-run"]),
        (["my-run", "--by", "team", "--since", "2026-11-01"], ["--by and --since cannot be used with one run"]),
        (["--label", "team"], ["`team` is not a label", "KEY=VALUE"]),
        (["--label", "=search"], ["`=search` is not a label"]),
        (["--label", "team=a", "--label", "team=b"], ["have the label `team` twice", "--by team"]),
        (["--label", "taem=search"], ["has the label `taem`", "Did you mean `team`?"]),
        (["--by", "tema"], ["has the label `tema`", "--by tema", "Did you mean `team`?"]),
        (["--by", "usr"], ["Did you mean `user`?", "Existing labels: team"]),
        (["--by", ""], ["--by is empty", "--by team"]),
        (["--json", "--csv"], ["--json and --csv exclude each other", "Choose one"]),
        (["--since", "yesterday"], ["`yesterday` is not a date", "--since yesterday", "YYYY-MM-DD"]),
        (["--until", "2026-11-31"], ["`2026-11-31` is not a date", "--until"]),
        (
            ["--since", "2026-11-02", "--until", "2026-11-01"],
            ["2026-11-02 is after --until 2026-11-01", "Swap --since and --until"],
        ),
        (["--serving", "--by", "team"], ["--by cannot be used with --serving", "Use only one"]),
        (["my-run", "--serving"], ["RUN my-run cannot be used with --serving"]),
        (["--store", "run.yaml"], ["is a file; a store is a folder"]),
    ],
)
def test_bad_bill_is_refused(
    folder: Path, arguments: list[str], fragments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, ["cost", *arguments], fragments)


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("budget: {max_usd: 0}\n", ["`budget.max_usd` is 0", "more than 0", "run.yaml:7:19"]),
        ("budget: {max_usd: -2}\n", ["`budget.max_usd` is -2", "run.yaml:7:19"]),
        ("budget: {max_usd: two}\n", ["`budget.max_usd`", "a number"]),
        ("budget: {usd: 2}\n", ["Unknown key `budget.usd`.", "max_usd"]),
        ("budget: 2\n", ["`budget` is 2"]),
        ("budget: {}\n", ["`budget.max_usd` is missing"]),
        (
            "budget: {max_usd: 2}\nhardware: {price_usd_per_hour: 0}\n",
            ["The budget is $2, but an hour counts as $0", "run file", "Set hardware.price_usd_per_hour"],
        ),
    ],
)
def test_bad_budget_of_a_run_file_is_refused(
    folder: Path, text: str, fragments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "run.yaml").write_text(GOOD + text)
    refused(capsys, ["train", "run.yaml"], fragments)
    assert open_store("store").list("runs") == [RUN]


@pytest.mark.parametrize("usd", ["0", "-1", "nan", "inf"])
@pytest.mark.parametrize("what", [["run.yaml"], ["--resume", "my-run"]])
def test_bad_budget_option_is_refused(
    folder: Path, usd: str, what: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, ["train", *what, "--budget", usd], [f"--budget is {usd}", "above 0"])


@pytest.mark.parametrize("more", [[], ["--budget", "0.099"], ["--budget", "0.05", "--json"]])
def test_a_spent_budget_is_said_before_anything_starts(
    folder: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["train", "--resume", "my-run", *more])
    err = capsys.readouterr().err
    assert code == 4
    assert "is spent: $0.1000 so far" in err
    assert f"guitarfish train --resume {RUN} --budget 0.20" in err
    assert len(Ledger(open_store("store"), RUN).attempts()) == 1


def test_a_damaged_spec_is_an_error_for_its_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("store/runs", RUN, "spec.json").write_text("[]")
    refused(capsys, ["cost", "my-run"], [f"The record runs/{RUN}/spec.json is damaged", "Restore the file"])
    refused(capsys, ["runs", "show", "my-run", "--json"], ["damaged"])


def test_labels_without_any_say_where_they_come_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_store(str(tmp_path)).create("runs/a/spec.json", b'{"name": "a"}')
    refused(capsys, ["cost", "--by", "team", "--store", str(tmp_path)], ["Set labels in run files: labels:"])
