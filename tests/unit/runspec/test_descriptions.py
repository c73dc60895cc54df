"""What is generated from the models: JSON Schema, reference page, template. And that they agree with loading."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from runspec.errors import SpecError
from runspec.load import parse_run
from runspec.reference import reference
from runspec.run import RunSpec
from runspec.schema import json_schema
from runspec.template import SHOWN, Start, render
from runspec.tree import every_key, models

ROOT = Path(__file__).parents[3]
START = Start("my-run", {"kind": "hub", "id": "some/model"}, {"kind": "file", "path": "data.jsonl"})
GOOD = {"name": "a", "model": {"source": {"kind": "hub", "id": "x"}}, "data": {"source": {"kind": "file", "path": "d"}}}


def test_every_key_is_described() -> None:
    for key in every_key():
        if key.name != "kind":
            assert key.field.description, key.path
            assert key.field.description.endswith("."), key.path


def test_reference_page_is_current() -> None:
    page = (ROOT / "docs" / "reference.md").read_text()
    assert page == reference(), "docs/reference.md is behind the models: make reference"


def test_schema_is_valid_closed_and_described() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for definition in [schema, *schema["$defs"].values()]:
        assert definition["additionalProperties"] is False
        assert definition["description"]


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({}, True),
        ({"lora": {"rank": 8, "targets": ["q_proj"]}}, True),
        ({"publish": None}, True),
        ({"evaluation": {"scorers": [{"kind": "json", "fields": ["a"]}, {"kind": "exact_match"}]}}, True),
        ({"lora": {"rnak": 8}}, False),
        ({"lora": {"rank": 0}}, False),
        ({"lora": {"rank": "8"}}, False),
        ({"data": {"source": {"path": "d"}}}, False),
        ({"evaluation": {"scorers": [{"kind": "exact"}]}}, False),
        ({"name": "Not A Name"}, False),
    ],
)
def test_schema_and_loading_agree(change: dict[str, object], valid: bool) -> None:
    values = {**GOOD, **change}
    assert jsonschema.Draft202012Validator(json_schema()).is_valid(values) is valid
    try:
        parse_run(yaml.safe_dump(values), "run.yaml")
    except SpecError:
        assert not valid
    else:
        assert valid


def test_template_is_valid_and_changes_no_default() -> None:
    spec = parse_run(render(START), "run.yaml")
    defaults = parse_run(yaml.safe_dump(GOOD), "run.yaml")
    assert spec.model_copy(update={"name": "a", "model": defaults.model, "data": defaults.data}) == defaults


def test_template_names_every_key_of_its_sections() -> None:
    text = render(START)
    for section in SHOWN:
        for name in models(RunSpec.model_fields[section].annotation)[0].model_fields:
            assert name in text
    assert all(len(line) <= 104 for line in text.splitlines())
