"""The run file that a search writes: it loads, keeps comments, and differs from its original in what was chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from runspec.load import load_run, resolved
from tuning.chosen_file import render
from tuning.records import SearchRecord
from tuning.space import Trial

RUN = """\
# a comment
name: my-run
model:
  source: {kind: hub, id: some/model}
data:
  source: {kind: file, path: ../rows.jsonl}
  system_prompt: "yes: 5"
# why this rank
lora: {rank: 16, dropout: 0, targets: [q_proj]}
evaluation:
  scorers: [{kind: json, schema_path: schema.json}, {kind: regex, pattern: "^0o7$"}]
gate: {metric: json_valid}
training:
  epochs: 1.5  # enough
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


def record_of(run_file: Path, *overrides: str) -> SearchRecord:
    loaded = load_run(run_file, overrides)
    written = loaded.spec.model_dump(mode="json", exclude_unset=True)
    return SearchRecord(run_file=str(run_file), folder=str(run_file.parent), written=written, text=loaded.text)


def test_it_loads_and_says_where_it_comes_from(run_file: Path) -> None:
    before = load_run(run_file, ["seed=7"])
    text = render(record_of(run_file, "seed=7"), TRIAL, HEAD)
    assert text.startswith("# Written by a search.\n# metric: 0.5\n\n# a comment\nname: my-run\n")
    target = run_file.with_name("run-tuned.yaml")
    target.write_text(text)
    after = load_run(target).spec
    assert (after.lora.rank, after.lora.alpha, after.training.learning_rate) == (4, 8.0, 5e-05)
    assert (after.seed, after.tuning) == (7, None)
    changed = {"lora": before.spec.lora, "training": before.spec.training, "tuning": before.spec.tuning}
    assert after.model_copy(update=changed) == before.spec
    assert "few_shot" not in text  # a default that nobody wrote


def test_comments_are_kept(run_file: Path) -> None:
    lines = render(record_of(run_file), TRIAL, HEAD).splitlines()
    assert lines[lines.index("# why this rank") + 1].startswith("lora: {rank: 4, ")
    assert "  epochs: 1.5  # enough" in lines


def test_a_section_that_is_merged_from_another_is_written_out(run_file: Path) -> None:
    merged = "method: {kind: sft, <<: &same {packing: on}}\ntraining: &t {epochs: 2}\n"
    run_file.write_text(RUN.replace("training:\n  epochs: 1.5  # enough\n", merged))
    target = run_file.with_name("run-tuned.yaml")
    target.write_text(render(record_of(run_file), TRIAL, []))
    after = load_run(target).spec
    assert (after.lora.rank, after.training.epochs, after.method.packing) == (4, 2, "on")


@pytest.mark.parametrize("text", [None, ""])
def test_sections_that_the_run_file_leaves_out_are_added(text: str | None, run_file: Path) -> None:
    kept = [line for line in RUN.splitlines() if not line.startswith(("lora", "training", "  epochs"))]
    run_file.write_text("\n".join(kept))
    record = record_of(run_file)
    run_file.write_text(render(record if text is None else record.model_copy(update={"text": text}), TRIAL, []))
    assert load_run(run_file).spec.lora.rank == 4


def test_for_another_folder_paths_are_absolute(run_file: Path, tmp_path: Path) -> None:
    before = load_run(run_file)
    target = tmp_path / "elsewhere.yaml"
    target.write_text(render(record_of(run_file), TRIAL, HEAD, absolute=True))
    after = resolved(load_run(target))
    assert after.data == resolved(before).data
    assert after.evaluation == resolved(before).evaluation
    assert str(tmp_path / "rows.jsonl") in target.read_text()


def test_a_scorer_of_the_users_own_is_found_from_another_folder(run_file: Path, tmp_path: Path) -> None:
    scorers = "evaluation: {scorers: [{kind: custom, function: 'own:score'}]}\ngate: {metric: score}\n"
    run_file.write_text(RUN[: RUN.index("evaluation:")] + scorers + "tuning: {ranks: [4, 8]}\n")
    target = tmp_path / "elsewhere.yaml"
    target.write_text(render(record_of(run_file), TRIAL, HEAD, absolute=True))
    assert resolved(load_run(target)).evaluation.scorers[0].folder == str(run_file.parent)
