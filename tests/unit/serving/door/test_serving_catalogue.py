"""Names to versions, with a real registry in a local store and a test clock."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.adapters import draft, write_adapter

from cluster.store.storage import open_store
from registry.adapters import AdapterEntry, Registry
from runspec.errors import RegistryError, ServingError, StoreError
from runspec.publish import ServingSpec
from serving.door.catalogue import Catalogue
from serving.plan import ServePlan


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class CutOff(Registry):
    """A registry whose store can be cut off, as a network does."""

    silent = False
    asked = 0

    def resolve(self, reference: str) -> Any:
        self.asked += 1
        self._listen()
        return super().resolve(reference)

    def entries(self) -> list[AdapterEntry]:
        self._listen()
        return super().entries()

    def _listen(self) -> None:
        if self.silent:
            raise StoreError("The store does not answer.")


@pytest.fixture
def registry(tmp_path: Path) -> CutOff:
    return CutOff(open_store(str(tmp_path / "store")))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def catalogue(registry: CutOff, clock: Clock) -> Catalogue:
    spec = ServingSpec(max_rank=16)
    plan = ServePlan(Path("/model"), "folder:abc", "base", "unused", spec, "cpu", "float32")
    return Catalogue(plan, registry, clock)


def publish(registry: Registry, folder: Path, name: str, **changes: Any) -> int:
    version = registry.publish(name, write_adapter(folder), draft(**changes)).version
    registry.promote(name, version)
    return version


def ask(catalogue: Catalogue, model: str | None) -> str:
    return asyncio.run(catalogue.resolve(model)).model


def test_the_base_needs_no_registry(catalogue: Catalogue, registry: CutOff) -> None:
    assert ask(catalogue, "base") == ask(catalogue, None) == "base"
    assert registry.asked == 0


def test_every_way_to_name_an_adapter(catalogue: Catalogue, registry: CutOff, tmp_path: Path) -> None:
    publish(registry, tmp_path / "a", "fruit")
    publish(registry, tmp_path / "a", "fruit")
    registry.promote("fruit", 1, "canary")
    assert ask(catalogue, "fruit") == "fruit@2"
    assert ask(catalogue, "fruit@canary") == "fruit@1"
    assert ask(catalogue, "fruit@1") == "fruit@1"


def test_a_moved_alias_is_noticed_after_a_second(
    catalogue: Catalogue, registry: CutOff, clock: Clock, tmp_path: Path
) -> None:
    publish(registry, tmp_path / "a", "fruit")
    assert ask(catalogue, "fruit") == "fruit@1"
    publish(registry, tmp_path / "a", "fruit")
    assert ask(catalogue, "fruit") == "fruit@1"
    clock.now += 1.1
    assert ask(catalogue, "fruit") == "fruit@2"
    registry.rollback("fruit")
    clock.now += 1.1
    assert ask(catalogue, "fruit") == "fruit@1"


def test_an_exact_version_is_looked_up_once(
    catalogue: Catalogue, registry: CutOff, clock: Clock, tmp_path: Path
) -> None:
    publish(registry, tmp_path / "a", "fruit")
    for _ in range(3):
        assert ask(catalogue, "fruit@1") == "fruit@1"
        clock.now += 1000
    assert registry.asked == 1


def test_requests_that_come_together_look_up_once(catalogue: Catalogue, registry: CutOff, tmp_path: Path) -> None:
    publish(registry, tmp_path / "a", "fruit")

    async def together() -> list[str]:
        return [one.model for one in await asyncio.gather(*(catalogue.resolve("fruit") for _ in range(20)))]

    assert asyncio.run(together()) == ["fruit@1"] * 20
    assert registry.asked == 1


def test_serving_goes_on_without_the_store(
    catalogue: Catalogue, registry: CutOff, clock: Clock, tmp_path: Path
) -> None:
    publish(registry, tmp_path / "a", "fruit")
    assert ask(catalogue, "fruit") == "fruit@1"
    assert asyncio.run(catalogue.listing()).keys() == {"base", "fruit", "fruit@prod", "fruit@1"}
    registry.silent = True
    clock.now += 60
    assert ask(catalogue, "fruit") == "fruit@1"
    assert "fruit" in asyncio.run(catalogue.listing())
    with pytest.raises(StoreError):
        ask(catalogue, "other")


def test_unknown_names_get_a_suggestion(catalogue: Catalogue, registry: CutOff, tmp_path: Path) -> None:
    publish(registry, tmp_path / "a", "fruit")
    with pytest.raises(RegistryError, match="Adapter `friut` not found"):
        ask(catalogue, "friut")
    with pytest.raises(RegistryError, match="no version 7"):
        ask(catalogue, "fruit@7")


@pytest.mark.parametrize("name", ["", "../fruit@1", "fruit@²", "fruit@1@2", "Fruit", "fruit@", "a" * 500, "fruit\n"])
def test_names_that_cannot_be_names_do_not_reach_the_store(
    catalogue: Catalogue, registry: CutOff, tmp_path: Path, name: str
) -> None:
    publish(registry, tmp_path / "a", "fruit")
    with pytest.raises(RegistryError):
        ask(catalogue, name)
    assert registry.asked == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"base_digest": "folder:other"}, "was trained on tiny"), ({"rank": 32}, "has rank 32")],
)
def test_adapters_that_do_not_fit_are_refused_and_not_listed(
    catalogue: Catalogue, registry: CutOff, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    publish(registry, tmp_path / "a", "fruit", **changes)
    with pytest.raises(ServingError, match=message):
        ask(catalogue, "fruit")
    assert list(asyncio.run(catalogue.listing())) == ["base"]
