"""`guitarfish adapters` on a real registry in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.adapters import draft, write_adapter

from cluster.store.storage import open_store
from guitarfish.__main__ import run
from registry.adapters import Registry
from registry.card import CardDraft, ScoreEntry


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with two versions of one adapter; prod was moved from 1 to 2."""
    uri = str(tmp_path / "store")
    registry = Registry(open_store(uri))
    folder = write_adapter(tmp_path / "adapter")
    for version in (1, 2):
        registry.publish("homes", folder, scored(version / 4))
        registry.promote("homes", version, "prod", reason=f"try {version}")
    return uri


def scored(score: float) -> CardDraft:
    """A card with one score."""
    entry = ScoreEntry(before=0.1, after=score, gain=score - 0.1, low=0.05, high=0.5, n=100)
    return draft(run_id="run-1", scores={"exact_match": entry}, cost_usd=0.25)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a verb prints, when it does well."""
    assert run(["adapters", *arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_list(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    listed = json.loads(answer(capsys, "list", "--store", store, "--json"))
    assert [(row["adapter"], row["latest"]["version"], row["aliases"]) for row in listed] == [("homes", 2, {"prod": 2})]
    assert "prod -> 2" in answer(capsys, "list", "--store", store)


def test_list_of_an_empty_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(answer(capsys, "list", "--store", str(tmp_path / "none"), "--json")) == []


def test_show_adapter_and_version(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = answer(capsys, "show", "homes", "--store", store)
    assert "try 1" in out
    assert "exact_match 0.5" in " ".join(out.split())
    assert max(len(line) for line in out.splitlines()) <= 80
    card = json.loads(answer(capsys, "show", "homes@prod", "--store", store, "--json"))
    assert card["version"] == 2
    assert "0.05 to 0.5" in answer(capsys, "show", "homes@1", "--store", store)


def test_promote_and_rollback(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "promote", "homes", "1", "--store", store, "--reason", "back")
    registry = Registry(open_store(store))
    assert registry.aliases("homes") == {"prod": 1}
    moved = json.loads(answer(capsys, "rollback", "homes", "--store", store, "--json"))
    assert moved["move"]["version"] == 2
    answer(capsys, "promote", "homes", "1", "--alias", "staging", "--store", store)
    assert registry.aliases("homes") == {"prod": 2, "staging": 1}


def test_promote_if_it_still_points_there(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["adapters", "promote", "homes", "1", "--expected", "1", "--store", store]) == 1
    assert "points to version 2" in capsys.readouterr().err


def test_verify_finds_damage(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "show", "homes@2", "--verify", "--store", store)
    weights = Path(store) / "adapters/homes/versions/2/adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert run(["adapters", "show", "homes@2", "--verify", "--store", store]) == 2
    assert "damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["show", "hoems"], "homes"),
        (["show", "homes@7"], "1, 2"),
        (["show", "homes@staging"], "prod"),
        (["promote", "homes", "9"], "1, 2"),
        (["promote", "homes", "two"], "VERSION"),
        (["rollback", "homes", "--alias", "nothing"], "prod"),
        (["publish"], "FOLDER or --run"),
        (["publish", "--run", "no-such-run"], "no-such-run"),
        (["publish", "no-such-folder", "--name", "x"], "adapter_config.json"),
    ],
)
def test_bad_input(arguments: list[str], fragment: str, store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["adapters", *arguments, "--store", store]) == 2
    err = capsys.readouterr().err
    assert fragment in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("config", "fragment"),
    [
        ({"peft_type": "IA3"}, "peft_type is `IA3`"),
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "biases"),
        ({"modules_to_save": ["lm_head"]}, "whole modules"),
        ({"r": "eight"}, "r is `eight`"),
    ],
)
def test_adapters_that_cannot_be_served_are_not_published(
    config: dict[str, object], fragment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_adapter(tmp_path / "odd", **config)
    assert run(["adapters", "publish", str(folder), "--name", "odd", "--store", str(tmp_path / "store")]) == 2
    assert fragment in capsys.readouterr().err
    assert Registry(open_store(str(tmp_path / "store"))).names() == []


def test_publish_from_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    (base / "model.safetensors").write_bytes(b"weights")
    folder = write_adapter(tmp_path / "mine", base_model_name_or_path=str(base), use_rslora=True)
    store = str(tmp_path / "store")
    published = answer(capsys, "publish", str(folder), "--name", "mine", "--alias", "prod", "--store", store, "--json")
    card = json.loads(published)["card"]
    assert (card["adapter"], card["version"], card["rank"], card["rslora"]) == ("mine", 1, 8, True)
    assert card["base_digest"].startswith("folder:")
    assert Registry(open_store(store)).resolve("mine").version == 1
