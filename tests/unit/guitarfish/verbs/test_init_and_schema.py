"""`guitarfish init` and `guitarfish schema`: what they write can be read back."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from guitarfish.__main__ import run
from guitarfish.actions.sources import data_source, model_source
from runspec.load import load_run


def test_init_writes_a_valid_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "My Project!" / "run.yaml"
    assert run(["init", str(file)]) == 0
    assert load_run(file).spec.name == "my-project"
    assert "next: guitarfish check" in capsys.readouterr().out


def test_init_keeps_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("mine")
    assert run(["init", str(file)]) == 2
    assert "--force" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert run(["init", str(file), "--force"]) == 0
    assert file.read_text() != "mine"


def test_init_takes_name_model_and_data(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    assert run(["init", str(file), "--name", "n", "--model", "package:p/m.gguf", "--data", "hub:a/b"]) == 0
    spec = load_run(file).spec
    assert (spec.name, spec.model.source.kind, spec.data.source.kind) == ("n", "gguf", "hub")


def test_init_refuses_a_bad_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", str(tmp_path / "run.yaml"), "--name", "No Name"]) == 2
    assert "--name" in capsys.readouterr().err


def test_init_says_where_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run(["init", str(tmp_path / "file" / "run.yaml")]) == 2
    assert "Cannot write" in capsys.readouterr().err


def test_schema_to_stdout_and_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert run(["schema", str(tmp_path / "new" / "run.schema.json")]) == 0
    assert json.loads((tmp_path / "new" / "run.schema.json").read_text()) == printed
    run(["init", str(tmp_path / "run.yaml")])
    jsonschema.validate(yaml.safe_load((tmp_path / "run.yaml").read_text()), printed)


def test_sources(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    assert model_source("org/name", tmp_path) == {"kind": "hub", "id": "org/name"}
    assert model_source("here", tmp_path) == {"kind": "folder", "path": "here"}
    assert model_source("./there", tmp_path) == {"kind": "folder", "path": "./there"}
    assert model_source("a.GGUF", tmp_path) == {"kind": "gguf", "path": "a.GGUF"}
    assert data_source("here", tmp_path) == {"kind": "folder", "path": "here"}
    assert data_source("a.jsonl", tmp_path) == {"kind": "file", "path": "a.jsonl"}
