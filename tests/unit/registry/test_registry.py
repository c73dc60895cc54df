"""The registry on a local store: versions, aliases, rollback, and errors for what is damaged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.adapters import draft, write_adapter

from cluster.store.storage import open_store
from registry.adapters import ANY, Registry, ResolvedAdapter
from registry.aliases import AliasMove, trail
from registry.card import Canary
from runspec.errors import ConflictError, RegistryError

DRAFT = draft(
    rank=16,
    alpha=32,
    run_id="run",
    cost_usd=0.5,
    canary=Canary(prompt_token_ids=[1], answer_token_ids=[2], tuned_logprobs=[-0.1], base_logprobs=[-3.0]),
)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter's folder, with a file that is not published."""
    folder = write_adapter(tmp_path / "adapter")
    (folder / "optimizer.pt").write_bytes(b"large")
    return folder


@pytest.fixture
def registry(tmp_path: Path, adapter: Path) -> Registry:
    """`home` with the versions 1, 2, 3, and `homes` with 1."""
    registry = Registry(open_store(str(tmp_path / "store")))
    for _ in range(3):
        registry.publish("home", adapter, DRAFT)
    registry.publish("homes", adapter, DRAFT)
    return registry


def test_published_versions(registry: Registry, tmp_path: Path) -> None:
    assert registry.names() == ["home", "homes"]
    assert registry.versions("home") == [1, 2, 3]
    assert registry.versions("none") == []
    card = registry.card("home", 2)
    assert (card.adapter, card.version, card.rank, card.canary) == ("home", 2, 16, DRAFT.canary)
    assert sorted(os.listdir(tmp_path / "store/adapters/home/versions/2")) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "card.json",
        "claim.json",
    ]
    registry.promote("home", 2)
    assert [(entry.name, entry.versions, entry.aliases) for entry in registry.entries()] == [
        ("home", (1, 2, 3), {"prod": 2}),
        ("homes", (1,), {}),
    ]


def test_a_version_without_a_card_does_not_exist(registry: Registry) -> None:
    registry.store.create_json("adapters/home/versions/4/claim.json", {})
    registry.store.create("adapters/new/versions/1/adapter_config.json", b"{}")
    assert registry.versions("home") == [1, 2, 3]
    assert registry.names() == ["home", "homes"]
    for act in (
        lambda: registry.resolve("home@4"),
        lambda: registry.card("home", 4),
        lambda: registry.promote("home", 4),
    ):
        with pytest.raises(RegistryError, match=r"(?s)Adapter `home` has no version 4\..*Use one of: 1, 2, 3\."):
            act()


def test_a_number_that_was_claimed_is_not_used_again(registry: Registry, adapter: Path) -> None:
    registry.store.create_json("adapters/home/versions/4/claim.json", {})
    assert registry.publish("home", adapter, DRAFT).version == 5
    assert registry.versions("home") == [1, 2, 3, 5]


def test_references(registry: Registry) -> None:
    registry.promote("home", 2)
    registry.promote("home", 3, "next")
    assert registry.resolve("home") == registry.resolve("home@prod") == ResolvedAdapter("home", 2)
    assert registry.resolve("home@next").version == 3
    assert registry.resolve("home@1").reference == "home@1"
    assert registry.aliases("home") == {"next": 3, "prod": 2}


@pytest.mark.parametrize(
    ("reference", "what", "fix"),
    [
        ("hom", "Adapter `hom` not found.", "Did you mean `home` or `homes`?"),
        ("zzz", "Adapter `zzz` not found.", "Use one of: home, homes."),
        ("zzz@1", "Adapter `zzz` not found.", "Use one of: home, homes."),
        ("home", "Adapter `home` has no alias `prod`.", "promote home@VERSION --alias prod"),
        ("homes@prd", "Adapter `homes` has no alias `prd`.", "Did you mean `prod`?"),
        ("home@9", "Adapter `home` has no version 9.", "Use one of: 1, 2, 3."),
        ("", "`` is not a valid adapter name.", "lower-case letters"),
        ("../../etc", "`../../etc` is not a valid adapter name.", "lower-case letters"),
        ("home@../prod", "`../prod` is not a valid alias.", "not only digits"),
        ("home@", "`` is not a valid alias.", "lower-case letters"),
        ("Home", "`Home` is not a valid adapter name.", "lower-case letters"),
        ("home\n", "is not a valid adapter name.", "lower-case letters"),
        ("x" * 500, "...` is not a valid adapter name.", "at most 63"),
    ],
)
def test_bad_references(registry: Registry, reference: str, what: str, fix: str) -> None:
    registry.promote("homes", 1)
    with pytest.raises(RegistryError) as raised:
        registry.resolve(reference)
    assert what in raised.value.what
    assert fix in raised.value.fix
    assert len(raised.value.what) < 200


def test_moves_are_compare_and_set(registry: Registry) -> None:
    assert registry.promote("home", 1, expected=None, reason="first").seq == 1
    with pytest.raises(ConflictError, match=r"points to version 1 .*expected not to exist"):
        registry.promote("home", 2, expected=None)
    with pytest.raises(ConflictError, match=r"points to version 1 .*expected to point to version 2"):
        registry.promote("home", 3, expected=2)
    assert registry.promote("home", 2, expected=1).seq == 2
    assert registry.promote("home", 3, expected=ANY).seq == 3
    with pytest.raises(ConflictError, match="does not exist"):
        registry.promote("home", 3, "next", expected=1)
    history = registry.alias_history("home", "prod")
    assert [(move.seq, move.version) for move in history] == [(1, 1), (2, 2), (3, 3)]
    assert history[0].reason == "first"
    assert "@" in history[0].by


def test_a_move_to_the_same_version_writes_nothing(registry: Registry) -> None:
    first = registry.promote("home", 2)
    assert registry.promote("home", 2, expected=2) == first
    assert len(registry.alias_history("home")) == 1


def test_rolling_back_twice_goes_two_versions_back(registry: Registry) -> None:
    for version in (1, 2, 3):
        registry.promote("home", version)
    assert registry.rollback("home").version == 2
    assert registry.rollback("home", reason="still wrong").version == 1
    with pytest.raises(RegistryError, match=r"Cannot roll `home@prod` back by 1: .* are 1\."):
        registry.rollback("home")
    assert [move.version for move in registry.alias_history("home")] == [1, 2, 3, 2, 1]
    registry.promote("home", 3)
    assert registry.rollback("home").version == 1


def test_rolling_back_several_steps(registry: Registry) -> None:
    for version in (1, 2, 3):
        registry.promote("home", version)
    assert registry.rollback("home", steps=2).version == 1
    for steps in (0, -1, 5):
        with pytest.raises(RegistryError, match="Cannot roll `home@prod` back by"):
            registry.rollback("home", steps=steps)


def test_the_trail_of_moves() -> None:
    def move(seq: int, version: int, restores: int | None = None) -> AliasMove:
        return AliasMove(seq=seq, version=version, at="2026-01-01T00:00:00Z", by="x", reason="", restores=restores)  # type: ignore[arg-type]

    moves = [move(1, 1), move(2, 2), move(3, 3), move(4, 2, restores=2), move(5, 4), move(6, 4)]
    assert [kept.seq for kept in trail(moves)] == [1, 2, 5]
    assert trail([]) == []


@pytest.mark.parametrize("alias", ["", "Prod", "3", "a/b", ".."])
def test_bad_aliases(registry: Registry, alias: str) -> None:
    with pytest.raises(RegistryError, match="is not a valid alias"):
        registry.promote("home", 1, alias)


def test_rollback_and_history_of_a_missing_alias_or_adapter(registry: Registry) -> None:
    for act in (registry.rollback, registry.alias_history):
        with pytest.raises(RegistryError, match="no alias `prod`"):
            act("home")
        with pytest.raises(RegistryError, match="Did you mean `home`"):
            act("hoe")


def test_fetch(registry: Registry, adapter: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "home" / "2"
    assert registry.fetch("home", 2, folder) == folder
    assert sorted(os.listdir(folder)) == ["adapter_config.json", "adapter_model.safetensors", "card.json"]
    assert os.listdir(folder.parent) == ["2"]
    stamp = (folder / "card.json").stat().st_mtime_ns
    registry.fetch("home", 2, folder)
    assert (folder / "card.json").stat().st_mtime_ns == stamp
    (folder / "adapter_model.safetensors").write_bytes(b"damaged")
    registry.fetch("home", 2, folder)
    weights = "adapter_model.safetensors"
    assert (folder / weights).read_bytes() == (adapter / weights).read_bytes()
    assert os.listdir(folder.parent) == ["2"]


def test_fetch_does_not_overwrite_other_folders(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(RegistryError, match=r"in use: it contains thesis\.txt"):
        registry.fetch("home", 2, tmp_path / "mine")
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]
    (tmp_path / "empty").mkdir()
    assert len(os.listdir(registry.fetch("home", 2, tmp_path / "empty"))) == 3


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_damage_in_the_store_is_found(registry: Registry, tmp_path: Path, name: str) -> None:
    assert registry.verify("home", 2).version == 2
    file = tmp_path / "store/adapters/home/versions/2" / name
    file.write_bytes(file.read_bytes().replace(b"16", b"61"))
    for act in (lambda: registry.verify("home", 2), lambda: registry.fetch("home", 2, tmp_path / "fetched")):
        with pytest.raises(RegistryError, match=f"(?s){name} of home@2 is damaged.*versions/2/{name}"):
            act()
    assert not (tmp_path / "fetched").exists()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "card.json is damaged"),
        ('{"schema_version": 1}', "card.json is damaged: "),
        ('{"schema_version": 2}', "The card has schema 2"),
        ("[]", "card.json is damaged"),
    ],
)
def test_a_damaged_card_is_named(registry: Registry, tmp_path: Path, content: str, what: str) -> None:
    (tmp_path / "store/adapters/home/versions/2/card.json").write_text(content)
    with pytest.raises(RegistryError, match=what) as raised:
        registry.card("home", 2)
    assert raised.value.where.endswith("adapters/home/versions/2/card.json")
    assert registry.card("home", 1).version == 1


def test_a_card_in_the_wrong_place_is_found(registry: Registry, tmp_path: Path) -> None:
    versions = tmp_path / "store/adapters/home/versions"
    (versions / "2/card.json").write_bytes((versions / "1/card.json").read_bytes())
    with pytest.raises(RegistryError, match=r"card\.json is damaged: it is the card of home@1"):
        registry.card("home", 2)


@pytest.mark.parametrize(
    "content", ["", "{}", '{"seq": 7, "version": 1, "at": "2026-01-01T00:00:00Z", "by": "", "reason": ""}']
)
def test_a_damaged_move_is_named_and_can_be_replaced(registry: Registry, tmp_path: Path, content: str) -> None:
    registry.promote("home", 1)
    registry.promote("home", 2)
    (tmp_path / "store/adapters/home/aliases/prod/2.json").write_text(content)
    for act in (
        lambda: registry.resolve("home"),
        lambda: registry.aliases("home"),
        lambda: registry.alias_history("home"),
        lambda: registry.rollback("home"),
        lambda: registry.promote("home", 3, expected=2),
        registry.entries,
    ):
        with pytest.raises(RegistryError, match=r"(?s)aliases/prod/2\.json is damaged.*Point the alias again"):
            act()
    assert registry.promote("home", 3).seq == 3
    assert registry.resolve("home").version == 3


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


@pytest.mark.parametrize(
    ("name", "damage", "what"),
    [
        ("adapter_model.safetensors", Path.unlink, "adapter_model.safetensors is missing"),
        ("adapter_model.safetensors", _cut, "but its header says"),
        ("adapter_model.safetensors", lambda file: file.write_bytes(b""), "does not begin with a safetensors header"),
        ("adapter_model.safetensors", lambda file: file.write_bytes(b"PK\3\4" + b"\0" * 99), "does not begin with"),
        ("adapter_model.safetensors", lambda file: file.write_bytes(b"\2" + b"\0" * 7 + b"{}"), "contains no tensors"),
        ("adapter_model.safetensors", lambda file: file.write_bytes(b"\2" + b"\0" * 7 + b"[]"), "header is damaged"),
        ("adapter_config.json", Path.unlink, "adapter_config.json is missing"),
        ("adapter_config.json", lambda file: file.write_text("{"), "is not valid JSON"),
        ("adapter_config.json", lambda file: file.write_text("[]"), "does not describe a LoRA adapter"),
        (
            "adapter_config.json",
            lambda file: file.write_text('{"peft_type": "IA3"}'),
            "does not describe a LoRA adapter",
        ),
    ],
)
def test_an_incomplete_or_invalid_adapter_is_not_published(
    registry: Registry, adapter: Path, name: str, damage: Any, what: str
) -> None:
    damage(adapter / name)
    with pytest.raises(RegistryError, match=what) as raised:
        registry.publish("home", adapter, DRAFT)
    assert raised.value.where == str(adapter / name)
    assert registry.versions("home") == [1, 2, 3]
    assert "4" not in registry.store.list("adapters/home/versions")


def test_a_card_of_another_registry_is_published_again(registry: Registry, adapter: Path, tmp_path: Path) -> None:
    other = Registry(open_store(str(tmp_path / "other")))
    card = other.publish("moved", adapter, registry.card("home", 3))
    assert (card.adapter, card.version, card.run_id) == ("moved", 1, "run")
    write_adapter(adapter, fill=b"\2")
    with pytest.raises(RegistryError, match="do not match the card of `home@3`"):
        other.publish("moved", adapter, registry.card("home", 3))


def test_a_canary_has_one_number_per_token() -> None:
    with pytest.raises(ValueError, match="one log-probability for each answer token"):
        Canary(prompt_token_ids=[1], answer_token_ids=[2, 3], tuned_logprobs=[0.0], base_logprobs=[0.0, 0.0])
