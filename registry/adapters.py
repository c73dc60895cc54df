"""The registry: immutable versions of adapters, and aliases that point to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cluster.store.storage import Store
from registry.aliases import ANY, Aliases, AliasMove, Expected, current_versions
from registry.card import AdapterCard, CardDraft
from registry.references import DEFAULT_ALIAS, ResolvedAdapter, check_name, parse_reference
from registry.versions import Versions, no_such_adapter, visible_versions
from runspec.errors import RegistryError

__all__ = ["ANY", "AdapterEntry", "AliasMove", "Expected", "Registry", "ResolvedAdapter"]


@dataclass(frozen=True)
class AdapterEntry:
    """One adapter of the registry."""

    name: str
    versions: tuple[int, ...]
    aliases: dict[str, int]
    """Version by alias."""


class Registry:
    """The adapters of a store.

    Every method raises RegistryError if a name, a version or an alias is missing or damaged, and StoreError if the
    store cannot be used.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def entries(self) -> list[AdapterEntry]:
        """All adapters with versions and aliases: one listing and one round of reads."""
        paths = self.store.walk("adapters")
        aliases = current_versions(self.store, paths)
        versions = visible_versions(paths)
        return [AdapterEntry(name, tuple(versions[name]), aliases.get(name, {})) for name in sorted(versions)]

    def names(self) -> list[str]:
        """Adapters that have a version."""
        return sorted(visible_versions(self.store.walk("adapters")))

    def versions(self, name: str) -> list[int]:
        """Versions in order; none for an adapter that does not exist."""
        return self._versions(name).visible()

    def card(self, name: str, version: int) -> AdapterCard:
        return self._versions(name).card(version)

    def publish(self, name: str, folder: Path, card: CardDraft) -> AdapterCard:
        """Publish the adapter in a folder as the next version of a name; no alias is moved.

        Publishers that race get different numbers; one that is killed leaves nothing visible.

        Args:
            folder: adapter_config.json and adapter_model.safetensors; other files are not published.
            card: what is known about it, or another registry's card, of which the draft's fields are taken.
        """
        return self._versions(name).publish(folder, card)

    def resolve(self, reference: str) -> ResolvedAdapter:
        """The version that `name`, `name@alias` or `name@3` means now; a bare name means its alias `prod`."""
        name, target = parse_reference(reference)
        if isinstance(target, int):
            self._require_version(name, target)
            return ResolvedAdapter(name, target)
        try:
            return ResolvedAdapter(name, self._aliases(name).version(target))
        except RegistryError:
            self.require(name)
            raise

    def aliases(self, name: str) -> dict[str, int]:
        """Version by alias; none for an adapter that does not exist."""
        return self._aliases(name).current()

    def alias_history(self, name: str, alias: str = DEFAULT_ALIAS) -> list[AliasMove]:
        """All moves of an alias, oldest first."""
        self.require(name)
        return self._aliases(name).history(alias)

    def promote(
        self,
        name: str,
        version: int,
        alias: str = DEFAULT_ALIAS,
        *,
        expected: int | Expected | None = ANY,
        reason: str = "",
    ) -> AliasMove:
        """Point an alias to a version. If it points there already, its last move is returned.

        Args:
            expected: the version it must point to until now, None if it must not exist yet, ANY to skip the check.

        Raises:
            ConflictError: it points elsewhere than expected, or another writer moved it meanwhile.
        """
        self._require_version(name, version)
        return self._aliases(name).move(alias, version, expected, reason)

    def rollback(self, name: str, alias: str = DEFAULT_ALIAS, steps: int = 1, reason: str = "") -> AliasMove:
        """Point an alias to its previous version, by a new move; twice goes two versions back.

        Raises:
            ConflictError: another writer moved it meanwhile.
        """
        self.require(name)
        return self._aliases(name).roll_back(alias, steps, reason)

    def verify(self, name: str, version: int) -> AdapterCard:
        """Download a version and compare its files with its card."""
        return self._versions(name).verify(version)

    def fetch(self, name: str, version: int, folder: Path) -> Path:
        """Download a version into `folder` unless an intact copy is there; returns the folder. See `Versions.fetch`."""
        return self._versions(name).fetch(version, folder)

    def require(self, name: str) -> None:
        """Raises RegistryError, naming the nearest adapter, if this one has no version."""
        if not self._versions(name).visible():
            raise no_such_adapter(self.store, name)

    def _require_version(self, name: str, version: int) -> None:
        versions = self._versions(name)
        if not versions.exists(version):
            raise versions.no_such_version(version)

    def _versions(self, name: str) -> Versions:
        check_name(name)
        return Versions(self.store, name)

    def _aliases(self, name: str) -> Aliases:
        check_name(name)
        return Aliases(self.store, name)
