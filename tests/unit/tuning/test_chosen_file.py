"""The run file that a search writes: it loads, and differs from the one it came from in what was chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from runspec.load import load_run, resolved
from tuning.chosen_file import render, render_absolute
from tuning.space import Trial

RUN = """\
# a comment
name: my-run
model:
  source: {kind: hub, id: some/model}
data:
  source: {kind: file, path: ../rows.jsonl}
  system_prompt: "yes: 5"
lora: {rank: 16, dropout: 0, targets: [q_proj]}
evaluation:
  scorers: [{kind: json, schema_path: schema.json}, {kind: regex, pattern: "^0o7$"}]
gate: {metric: json_valid}
training: {epochs: 1.5}
tuning: {ranks: [4, 8]}
"""
TRIAL = Trial(number=3, rank=4, alpha=8.0, learning_rate=5e-05)
HEAD = ["Written by a search.", "metric: 0.5"]


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    file = tmp_path / "inside" / "run.yaml"
    file.parent.mkdir()
    file.write_text(RUN)
    return file


def test_it_loads_and_says_where_it_comes_from(run_file: Path) -> None:
    before = load_run(run_file, ["seed=7"])
    text = render(before.spec.model_dump(mode="json", exclude_unset=True), TRIAL, HEAD)
    assert text.startswith("# Written by a search.\n# metric: 0.5\n\nname: my-run\n")
    target = run_file.with_name("run-tuned.yaml")
    target.write_text(text)
    after = load_run(target).spec
    assert (after.lora.rank, after.lora.alpha, after.training.learning_rate) == (4, 8.0, 5e-05)
    assert (after.seed, after.tuning) == (7, None)
    changed = {"lora": before.spec.lora, "training": before.spec.training, "tuning": before.spec.tuning}
    assert after.model_copy(update=changed) == before.spec
    assert "few_shot" not in text  # a default that nobody wrote


def test_sections_that_the_run_file_leaves_out_are_added(run_file: Path) -> None:
    run_file.write_text("\n".join(line for line in RUN.splitlines() if not line.startswith(("lora", "training"))))
    text = render(load_run(run_file).spec.model_dump(mode="json", exclude_unset=True), TRIAL, [])
    run_file.write_text(text)
    assert load_run(run_file).spec.lora.rank == 4


def test_for_another_folder_paths_are_absolute(run_file: Path, tmp_path: Path) -> None:
    before = load_run(run_file)
    written = before.spec.model_dump(mode="json", exclude_unset=True)
    target = tmp_path / "elsewhere.yaml"
    target.write_text(render_absolute(written, run_file.parent, TRIAL, HEAD))
    after = resolved(load_run(target))
    assert after.data == resolved(before).data
    assert after.evaluation == resolved(before).evaluation
    assert str(tmp_path / "rows.jsonl") in target.read_text()
