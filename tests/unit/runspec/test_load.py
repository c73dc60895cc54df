"""Run files that are fine: values, overrides, paths made absolute."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runspec.errors import SpecError
from runspec.load import LoadedRun, load_run, parse_run, resolved
from runspec.run import RunSpec
from runspec.tree import every_key, is_path

GOOD = """\
name: my-run
model:
  source: {kind: gguf, path: models/a.gguf}
  chat_template: chat.jinja
data:
  source: {kind: file, path: data.jsonl}
"""


def test_defaults_are_the_standard_recipe() -> None:
    spec = parse_run(GOOD, "run.yaml")
    assert (spec.lora.rank, spec.lora.alpha, spec.lora.dropout) == (16, 32, 0.05)
    assert spec.training.learning_rate == 2e-4
    assert (spec.training.batch_size_per_device, spec.training.gradient_accumulation) == (4, 8)
    assert spec.adapter_name == "my-run"


@pytest.mark.parametrize(
    ("text", "value"),
    [("2e-4", 2e-4), ("1E-5", 1e-5), (".001", 0.001), ("1.", 1.0), ("3", 3.0), ("+0.5", 0.5)],
)
def test_numbers_are_read_as_people_write_them(text: str, value: float) -> None:
    spec = parse_run(f"{GOOD}training: {{learning_rate: {text}}}\n", "run.yaml")
    assert spec.training.learning_rate == value


def test_on_and_off_are_words() -> None:
    assert parse_run(GOOD + "method: {kind: sft, packing: on}\n", "run.yaml").method.packing == "on"


def test_leading_zero_is_not_octal() -> None:
    assert parse_run(GOOD + "seed: 010\n", "run.yaml").seed == 10


def test_merge_keys_and_anchors_work() -> None:
    text = GOOD + "evaluation:\n  scorers:\n  - &s {kind: json, fields: [a]}\n  - {kind: exact_match}\n"
    assert parse_run(text, "run.yaml").evaluation.scorers[0].kind == "json"
    merged = GOOD + "lora: {<<: {rank: 8, alpha: 4}, alpha: 16}\n"
    lora = parse_run(merged, "run.yaml").lora
    assert (lora.rank, lora.alpha) == (8, 16)


def test_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_run(tmp_path / "run.yaml").spec.name == "my-run"


@pytest.mark.parametrize(
    ("override", "look", "value"),
    [
        ("lora.rank=8", lambda spec: spec.lora.rank, 8),
        ("training.learning_rate=5e-4", lambda spec: spec.training.learning_rate, 5e-4),
        ("publish=null", lambda spec: spec.publish, None),
        ("lora.targets=[q_proj, v_proj]", lambda spec: spec.lora.targets, ("q_proj", "v_proj")),
        ("lora.targets=all-linear", lambda spec: spec.lora.targets, "all-linear"),
        ("model.quantization={kind: none}", lambda spec: spec.model.quantization.kind, "none"),
        ("model.quantization.double=false", lambda spec: spec.model.quantization.double, False),
        ("data.holdout.fraction=0.5", lambda spec: spec.data.holdout.fraction, 0.5),
        ("data.source.path=a=b.jsonl", lambda spec: spec.data.source.path, "a=b.jsonl"),
    ],
)
def test_override(override: str, look, value: object) -> None:  # type: ignore[no-untyped-def]
    assert look(parse_run(GOOD, "run.yaml", [override])) == value


def test_last_override_wins_and_corrects_the_file() -> None:
    spec = parse_run(GOOD + "lora: {rank: wrong}\n", "run.yaml", ["lora.rank=4", "lora.rank=8"])
    assert spec.lora.rank == 8


def test_override_into_a_section_that_the_file_sets_to_null() -> None:
    spec = parse_run(GOOD + "publish: null\n", "run.yaml", ["publish.alias=staging"])
    assert spec.publish is not None
    assert spec.publish.alias == "staging"


def test_override_of_a_list_item() -> None:
    text = GOOD + "evaluation: {scorers: [{kind: exact_match}, {kind: json}]}\n"
    spec = parse_run(text, "run.yaml", ["evaluation.scorers.1.fields=[intent]"])
    assert spec.evaluation.scorers[1].fields == ("intent",)


def test_resolved_paths_hold_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, elsewhere = tmp_path / "recipe", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "run.yaml").write_text(
        GOOD + "evaluation:\n  scorers: [{kind: json, schema_path: s.json}, {kind: exact_match}]\n"
    )
    monkeypatch.chdir(elsewhere)
    spec = resolved(load_run("../recipe/run.yaml"))
    assert spec.model.source.path == str(folder / "models" / "a.gguf")
    assert spec.model.chat_template == str(folder / "chat.jinja")
    assert spec.data.source.path == str(folder / "data.jsonl")
    assert spec.evaluation.scorers[0].schema_path == str(folder / "s.json")
    assert spec.store == str(elsewhere / "store")
    assert RunSpec.model_validate_json(spec.model_dump_json()) == spec


def test_scorer_of_the_users_own_is_found_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorers = "evaluation: {scorers: [{kind: custom, function: 'own:score'}]}\ngate: {metric: score}\n"
    (tmp_path / "run.yaml").write_text(GOOD + scorers)
    monkeypatch.chdir("/")
    assert resolved(load_run(tmp_path / "run.yaml")).evaluation.scorers[0].folder == str(tmp_path)


def test_resolved_leaves_packages_hubs_and_buckets() -> None:
    text = GOOD.replace("models/a.gguf", "package:pkg/a.gguf") + "store: s3://bucket/prefix\n"
    spec = parse_run(text, "run.yaml")
    done = resolved(LoadedRun(spec, Path("/somewhere"), Path("/somewhere/run.yaml")))
    assert done.model.source.path == "package:pkg/a.gguf"
    assert done.store == "s3://bucket/prefix"


def test_every_path_is_marked_as_one() -> None:
    for key in every_key():
        about = (key.field.description or "").lower()
        if "relative to the run file" in about or "jinja file" in about or "json schema file" in about:
            assert is_path(key.field), key.path


def test_a_label_may_be_called_as_a_path_is(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(GOOD + "labels: {folder: billing, path: x}\n")
    assert resolved(load_run(tmp_path / "run.yaml")).labels == {"folder": "billing", "path": "x"}


def test_folder_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run.yaml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    loaded = load_run("run.yaml")
    assert loaded.folder == Path(os.getcwd())
    assert loaded.path == loaded.folder / "run.yaml"


def test_error_carries_what_where_fix() -> None:
    with pytest.raises(SpecError) as caught:
        parse_run(GOOD + "lora: {rank: 0}\n", "run.yaml")
    assert caught.value.where == "run.yaml:7:14, key lora.rank"
    assert "at least 1" in caught.value.what
    assert caught.value.fix


@pytest.mark.parametrize("wrong", ["seed: '3'", "seed: true", "store: 3", "lora: {rslora: 1}", "lora: {rank: 8.0}"])
def test_values_are_never_converted(wrong: str) -> None:
    with pytest.raises(SpecError, match="expected"):
        parse_run(f"{GOOD}{wrong}\n", "run.yaml")
