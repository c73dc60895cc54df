"""What of a run file a cluster elsewhere could not reach."""

import json
from typing import Any

import pytest

from runspec.portable import is_local, only_here
from runspec.run import RunSpec


def spec(**sections: Any) -> RunSpec:
    tree = {
        "name": "x",
        "store": "s3://bucket/prefix",
        "model": {"source": {"kind": "hub", "id": "some/model"}},
        "data": {"source": {"kind": "file", "path": "/home/me/rows.jsonl"}},
        **sections,
    }
    return RunSpec.model_validate_json(json.dumps(tree), strict=True)


def test_data_is_taken_along() -> None:
    assert only_here(spec()) == []


@pytest.mark.parametrize(
    ("section", "value", "key"),
    [
        ("store", "/home/me/store", "store"),
        ("store", "file:///home/me/store", "store"),
        ("model", {"source": {"kind": "folder", "path": "/models/x"}}, "model.source.path"),
        ("model", {"source": {"kind": "gguf", "path": "/models/x.gguf"}}, "model.source.path"),
        ("model", {"source": {"kind": "hub", "id": "a/b"}, "chat_template": "/t.jinja"}, "model.chat_template"),
        (
            "evaluation",
            {"scorers": [{"kind": "exact_match"}, {"kind": "json", "schema_path": "/s.json"}]},
            "evaluation.scorers[1].schema_path",
        ),
        ("evaluation", {"scorers": [{"kind": "custom", "function": "a:exact_match"}]}, "evaluation.scorers[0].folder"),
        (
            "evaluation",
            {"general": {"source": {"kind": "file", "path": "/p.jsonl"}}},
            "evaluation.general.source.path",
        ),
    ],
)
def test_what_is_on_this_machine_only_is_named(section: str, value: Any, key: str) -> None:
    metric = "json_valid" if "'json'" in str(value) else "exact_match"
    (found,) = only_here(spec(**{section: value}, gate={"metric": metric}))
    assert found.key == key
    assert found.fix


def test_what_a_package_has_is_there_too() -> None:
    inside = {"source": {"kind": "gguf", "path": "package:llm_x/x.gguf"}, "chat_template": "package:llm_x/t.jinja"}
    assert only_here(spec(model=inside)) == []


def test_local_stores() -> None:
    assert [is_local(uri) for uri in ("./store", "/a/b", "file:///a", "s3://b", "gs://b/p")] == [True] * 3 + [False] * 2
