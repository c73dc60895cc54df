"""The registry: immutable versions of adapters, and aliases that are moved between them."""

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
    """One adapter of the registry.

    Attributes:
        versions: in their order.
        aliases: version by alias.
    """

    name: str
    versions: tuple[int, ...]
    aliases: dict[str, int]


class Registry:
    """The adapters below `adapters/` of a store.

    Every method raises RegistryError where a name, a version or an alias is missing or damaged, and StoreError
    where the store cannot be used.
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
        """Versions that have a card; none for an adapter that does not exist."""
        return self._versions(name).visible()

    def card(self, name: str, version: int) -> AdapterCard:
        """The card of a version."""
        versions = self._versions(name)
        try:
            return versions.card(version)
        except RegistryError:
            self.require(name)
            raise

    def publish(self, name: str, folder: Path, card: CardDraft) -> AdapterCard:
        """Publish the adapter in a folder as the next version of a name; no alias is moved.

        Publishers that race get different numbers; one that is killed leaves nothing visible.

        Args:
            folder: holds adapter_config.json and adapter_model.safetensors; other files are not published.
            card: what is known of it; of another registry's card the part that is not that registry's is taken.
        """
        return self._versions(name).publish(folder, card)

    def resolve(self, reference: str) -> ResolvedAdapter:
        """The version that `name`, `name@alias` or `name@3` means now; a bare name means its alias `prod`."""
        parsed = parse_reference(reference)
        if parsed.version is not None:
            if not self._versions(parsed.name).exists(parsed.version):
                self.require(parsed.name)
                raise self._versions(parsed.name).no_such_version(parsed.version)
            return ResolvedAdapter(parsed.name, parsed.version)
        try:
            return ResolvedAdapter(parsed.name, self._aliases(parsed.name).version(parsed.alias or DEFAULT_ALIAS))
        except RegistryError:
            self.require(parsed.name)
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
        """Point an alias to a version. Where it points there already, its last move is returned.

        Args:
            expected: the version it has to point to until now, None where it must not exist yet, ANY for whatever.

        Raises:
            ConflictError: it points elsewhere than expected, or another writer moved it meanwhile.
        """
        if not self._versions(name).exists(version):
            self.require(name)
            raise self._versions(name).no_such_version(version)
        return self._aliases(name).move(alias, version, expected, reason)

    def rollback(self, name: str, alias: str = DEFAULT_ALIAS, steps: int = 1, reason: str = "") -> AliasMove:
        """Point an alias to where it pointed before, by a new move; twice goes two versions back.

        Raises:
            ConflictError: another writer moved it meanwhile.
        """
        self.require(name)
        return self._aliases(name).roll_back(alias, steps, reason)

    def verify(self, name: str, version: int) -> AdapterCard:
        """Download a version and compare its files with its card."""
        self.require(name)
        return self._versions(name).verify(version)

    def fetch(self, name: str, version: int, folder: Path) -> Path:
        """Make `folder` hold a version, checked against its card; returns it. Nothing is copied if it does already.

        Safe with other fetchers of the same folder, which appears whole. It holds both files and card.json.
        """
        try:
            return self._versions(name).fetch(version, folder)
        except RegistryError:
            self.require(name)
            raise

    def require(self, name: str) -> None:
        """Raises RegistryError, naming the nearest, where no version of an adapter is visible."""
        if not self._versions(name).visible():
            raise no_such_adapter(self.store, name, self.names())

    def _versions(self, name: str) -> Versions:
        check_name(name)
        return Versions(self.store, name)

    def _aliases(self, name: str) -> Aliases:
        check_name(name)
        return Aliases(self.store, name)
