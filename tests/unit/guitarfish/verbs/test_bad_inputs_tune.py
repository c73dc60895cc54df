"""Bad input of `guitarfish tune`: each is refused with its place and the way out, exit code 2, and no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command_line import GOOD, refused

from cluster.store.storage import open_store
from guitarfish.__main__ import run

BAD_FILES: dict[str, tuple[str, list[str]]] = {
    "no section": ("", ["no `tuning` section", "run.yaml", "tuning: {ranks"]),
    "null": ("tuning: null\n", ["no `tuning` section"]),
    "misspelt key": (
        "tuning: {rank: [4]}\n",
        ["Unknown key `tuning.rank`.", "run.yaml:6:10", "Did you mean `tuning.ranks`?"],
    ),
    "no ranks": ("tuning: {ranks: []}\n", ["`tuning.ranks` is a list of 0", "at least 1", "run.yaml:6:17"]),
    "rank 0": ("tuning: {ranks: [0, 4]}\n", ["`tuning.ranks[0]` is 0", "at least 1", "run.yaml:6:18"]),
    "one rank, no list": ("tuning: {ranks: 4}\n", ["`tuning.ranks` is 4", "a list of a whole number"]),
    "a rank twice": (
        "tuning: {ranks: [4, 8, 4]}\n",
        ["`tuning.ranks` has 4 twice.", "run.yaml:6:17", "Keep one of the two."],
    ),
    "a rank that is not served": (
        "tuning: {ranks: [4, 64]}\n",
        ["`tuning.ranks` has 64", "`serving.max_rank` is 16", "run.yaml:6:17", "Raise `serving.max_rank`"],
    ),
    "rates without a kind": (
        "tuning: {learning_rates: {values: [1e-4]}}\n",
        ["`tuning.learning_rates.kind` is missing", "list, range"],
    ),
    "no rates": ("tuning: {learning_rates: {kind: list, values: []}}\n", ["learning_rates.values", "at least 1"]),
    "rate 0": ("tuning: {learning_rates: {kind: list, values: [0]}}\n", ["values[0]` is 0", "more than 0"]),
    "a rate twice": (
        "tuning: {learning_rates: {kind: list, values: [1e-4, 0.0001]}}\n",
        ["`tuning.learning_rates` has 0.0001 twice", "run.yaml:6:26"],
    ),
    "range the wrong way round": (
        "tuning: {learning_rates: {kind: range, low: 1e-3, high: 1e-4}}\n",
        ["`low` is 0.001", "`high` is 0.0001", "run.yaml:6:45", "run.yaml:6:57", "Write the smaller one as `low`."],
    ),
    "range of one": (
        "tuning: {learning_rates: {kind: range, low: 1e-4, high: 1e-3, count: 1}}\n",
        ["learning_rates.count` is 1", "at least 2"],
    ),
    "budget below 0": ("tuning: {budget_usd: -1}\n", ["`tuning.budget_usd` is -1", "more than 0", "run.yaml:6:22"]),
    "no trials": ("tuning: {trials: 0}\n", ["`tuning.trials` is 0", "at least 1"]),
    "nothing at a time": ("tuning: {concurrent: 0}\n", ["`tuning.concurrent` is 0", "at least 1"]),
    "everybody goes on": ("tuning: {reduction_factor: 1}\n", ["reduction_factor` is 1", "at least 2"]),
    "nothing to compare": (
        "tuning: {grace_steps: 50}\ntraining: {holdout_loss_rows: 0}\n",
        ["`training.holdout_loss_rows` is 0", "run.yaml:7:31", "Set `training.holdout_loss_rows: 64`."],
    ),
    "compared too late": (
        "tuning: {grace_steps: 20}\ntraining: {checkpoint_every_steps: 50}\n",
        ["checkpoint_every_steps` is 50", "`tuning.grace_steps` is 20", "run.yaml:6:23", "run.yaml:7:36"],
    ),
    "over before anybody could be stopped": (
        "tuning: {grace_steps: 60}\ntraining: {max_steps: 60}\n",
        ["`tuning.grace_steps` is 60", "`training.max_steps` is 60", "run.yaml:6:23"],
    ),
    "two workers a trial": (
        "tuning: {}\nhardware: {workers: 2}\n",
        ["`hardware.workers` is 2", "run.yaml:7:21", "Set `hardware.workers: 1`", "gradient_accumulation: 16`"],
    ),
    "a model that several workers share": (
        "tuning: {}\nstrategy: {kind: zero3}\n",
        ["strategy.kind is zero3", "a trial has one worker", "device_map"],
    ),
    "an adapter that has its rank": (
        "tuning: {}\nlora: {start_from: older@2}\n",
        ["`lora.start_from` is older@2", "run.yaml:7:20", "Remove `lora.start_from` or `tuning`."],
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_file_is_refused(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, fragments = BAD_FILES[case]
    (tmp_path / "run.yaml").write_text(GOOD + text)
    refused(capsys, ["tune", str(tmp_path / "run.yaml")], fragments)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ([], ["No run file was given", "guitarfish tune RUN.yaml"]),
        (["nowhere.yaml"], ["Run file nowhere.yaml not found."]),
        (["run.yaml", "--budget", "-2"], ["--budget is -2", "above 0"]),
        (["run.yaml", "--budget", "nan"], ["--budget is nan"]),
        (["run.yaml", "--budget", "much"], ["--budget"]),
        (["run.yaml", "--set", "tuning.ranks=[4,512]"], ["`tuning.ranks` has 512", "--set tuning.ranks"]),
        (["--resume", "nothing-like-it"], ["No run named 'nothing-like-it'."]),
        (["--resume", "plain"], ["Run plain-run is not a search.", "guitarfish train --resume plain-run"]),
        (["--resume", "plain", "--set", "seed=1"], ["--set cannot change a search", "Start a new search with it"]),
    ],
)
def test_bad_command_line_is_refused(
    arguments: list[str],
    fragments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(f"{GOOD}tuning: {{}}\n")
    open_store("store").create("runs/plain-run/spec.json", b"{}")
    refused(capsys, ["tune", *arguments], fragments)


def test_a_trial_is_not_resumed_as_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("store")
    store.create("runs/a-tune-t00/spec.json", b"{}")
    record = {"search": "a-tune", "number": 0, "rank": 4, "alpha": 8, "learning_rate": 1e-4}
    store.create_json("runs/a-tune-t00/trial.json", record)
    store.create("runs/a-tune/spec.json", b"{}")
    store.create("runs/a-tune/search.json", b"{}")
    for run_id, what in (("a-tune-t00", "a trial of the search a-tune"), ("a-tune", "is a search")):
        assert run(["train", "--resume", run_id]) == 2
        err = capsys.readouterr().err
        assert what in err
        assert "guitarfish tune --resume a-tune" in err
