"""`guitarfish check` on real data: rows by fate, hold-out, metrics, warnings; and what is wrong beyond the run file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guitarfish.__main__ import run
from guitarfish.actions.findings import gate_in_words, in_words
from runspec.load import parse_run
from training.run.preparation import why_not_looked_at

RUN = """\
name: sums
model: {source: {kind: hub, id: nobody/has-this-model}}
data: {source: {kind: file, path: sums.jsonl}, on_bad_row: skip}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a run file and 60 rows of data, one of them bad."""
    rows = [{"prompt": f"What is {number} plus one?", "completion": str(number + 1)} for number in range(59)]
    lines = [json.dumps(row) for row in rows] + [json.dumps({"prompt": "and?"})]
    (tmp_path / "sums.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "run.yaml").write_text(RUN)
    return tmp_path


def test_counts_rows_by_fate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(folder / "run.yaml"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["valid"] is True
    assert found["layout"] == "prompt_completion"
    assert found["training_rows"] + found["holdout_rows"] == 59
    assert len(found["bad_rows"]) == 1
    assert found["metrics"] == ["exact_match", "loss"]
    assert any("500" in warning for warning in found["warnings"])
    assert found["model"].startswith("not checked: nobody/has-this-model is not on this machine")


def test_table_for_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(folder / "run.yaml"), "--data-only"]) == 0
    out, err = capsys.readouterr()
    assert "run.yaml is valid: run sums" in out
    assert "exact_match, loss" in out
    assert "sums.jsonl" in err
    assert "warning: " in err


@pytest.mark.parametrize(
    ("overrides", "fragments"),
    [
        (["data.source.path=sum.jsonl"], ["sum.jsonl", "sums.jsonl"]),
        (["data.on_bad_row=stop"], ["sums.jsonl", "60", "completion"]),
        (["evaluation.scorers=[{kind: json, schema_path: s.json}]", "gate.metric=json_valid"], ["s.json"]),
        (["evaluation.scorers=[{kind: custom, function: 'own:score'}]", "gate.metric=score"], ["own"]),
        (["evaluation.scorers=[{kind: label, labels: [a, b]}]", "gate.metric=label_accuracy"], ["none of the labels"]),
    ],
)
def test_what_is_wrong_beyond_the_run_file(
    overrides: list[str], fragments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [each for override in overrides for each in ("--set", override)]
    assert run(["check", str(folder / "run.yaml"), *arguments]) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    for fragment in fragments:
        assert fragment in err


def test_model_in_a_file_is_looked_at() -> None:
    spec = parse_run(RUN.replace("kind: hub, id: nobody/has-this-model", "kind: gguf, path: a.gguf"), "run.yaml")
    assert why_not_looked_at(spec.model) == ""


def test_words() -> None:
    spec = parse_run(RUN + "gate: {min_gain: 0.05, max_drift: 0.2, target: 0.9}\n", "run.yaml")
    words = gate_in_words(spec)
    assert words == (
        "exact_match gains at least 0.05, beyond chance; drift at most 0.2 nats per token; few-shot baseline below 0.9"
    )
    lengths = {"rows": 10, "whole": 7, "truncated": 3, "dropped": 0, "split": 0, "tokens": 100, "longest": 20}
    assert in_words(lengths) == "10 rows tokenized: 10 tokens on average, 20 at most, 3 truncated"
