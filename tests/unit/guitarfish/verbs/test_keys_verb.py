"""`guitarfish keys`: what is printed once, and what is printed always."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.adapters import draft, write_adapter

from cluster.store.storage import open_store
from guitarfish.__main__ import run
from registry.adapters import Registry
from serving.door.keys import TOKEN, list_keys


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with one adapter."""
    folder = write_adapter(tmp_path / "adapter")
    Registry(open_store(str(tmp_path / "store"))).publish("smart-home", folder, draft())
    return str(tmp_path / "store")


def test_a_key_is_alone_on_stdout(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "create", "kitchen", "--adapter", "smart-home", "--expires-days", "30", "--store", store]) == 0
    shown = capsys.readouterr()
    match = TOKEN.fullmatch(shown.out.strip())
    assert match
    assert match["secret"] not in shown.err
    assert "may use smart-home, until" in " ".join(shown.err.split())


def test_what_is_listed_has_no_secret(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "create", "team", "--all-adapters", "--base", "--store", store, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["name"], made["adapters"], made["base"], made["expires_at"]) == ("team", None, True, None)
    assert run(["keys", "revoke", made["id"], "--store", store]) == 0
    assert f"key {made['id']} (team) was revoked" in capsys.readouterr().out
    for form in ([], ["--json"]):
        assert run(["keys", "list", "--store", store, *form]) == 0
        shown = capsys.readouterr().out
        assert made["key"].split("-", 2)[2] not in shown
        assert "secret" not in shown
        assert "revoked" in shown
    (listed,) = json.loads(shown)
    assert (listed["id"], listed["state"]) == (made["id"], "revoked")


def test_no_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "list", "--store", str(tmp_path / "new")]) == 0
    assert "has no keys" in capsys.readouterr().err


def test_the_store_has_only_digests(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "create", "kitchen", "--base", "--store", store]) == 0
    secret = capsys.readouterr().out.strip().split("-", 2)[2]
    opened = open_store(store)
    contents = opened.read_many([path for path in opened.walk("") if path.endswith(".json")])
    assert len(list_keys(opened)) == 1
    assert not any(secret.encode() in content for content in contents.values())
