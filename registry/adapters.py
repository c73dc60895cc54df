"""The registry: immutable versions of adapters, and aliases that move by compare-and-set.

    adapters/<name>/versions/<n>/{claim, adapter_config.json, adapter_model.safetensors, card.json}
    adapters/<name>/aliases/<alias>/<seq>.json

A version's number is claimed by exclusive create, so racing publishers get different numbers; it exists once its card
does, which is written last. An alias is the last of its moves; to move it is to create the next one, which only one
of several writers can. A rollback is one more move, so nothing of the history is lost.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from cluster.ledger import user_name
from cluster.storage import Store
from registry.card import AdapterCard, CardDraft
from runspec.errors import ConflictError, RegistryError
from runspec.publish import NAME_PATTERN
from runspec.strict import Strict

CONFIG, WEIGHTS, CARD = "adapter_config.json", "adapter_model.safetensors", "card.json"
DEFAULT_ALIAS = "prod"
ANY: Final = "any"
"""`expected` of `promote`: whatever the alias points to now."""


@dataclass(frozen=True)
class ResolvedAdapter:
    """A reference resolved to a version that cannot change."""

    name: str
    version: int

    @property
    def folder(self) -> str:
        """Its folder, below the store's root."""
        return f"adapters/{self.name}/versions/{self.version}"


class AliasMove(Strict):
    """One move of an alias."""

    seq: int
    version: int
    at: datetime
    by: str
    reason: str


class Registry:
    """The adapters of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def names(self) -> list[str]:
        """All adapters that have a version."""
        return [name for name in self.store.list("adapters") if self.versions(name)]

    def versions(self, name: str) -> list[int]:
        """The published versions of an adapter, oldest first; none where there is no such adapter."""
        prefix = f"adapters/{name}/versions"
        cards = (path for path in self.store.walk(prefix) if path.endswith(f"/{CARD}"))
        return sorted(int(path.split("/")[3]) for path in cards)

    def card(self, name: str, version: int) -> AdapterCard:
        """The card of a version.

        Raises:
            RegistryError: there is no such version, or its card is damaged.
        """
        path = f"adapters/{name}/versions/{version}/{CARD}"
        if not self.store.exists(path):
            raise self._no_version(name, version)
        try:
            return AdapterCard.model_validate_json(self.store.read(path))
        except ValidationError as error:
            raise RegistryError(
                f"The card of {name} version {version} is damaged: {error.errors()[0]['msg']}",
                where=f"{self.store.uri}/{path}",
                fix="Publish the adapter again; the damaged version can be left where it is.",
            ) from error

    def publish(self, name: str, folder: Path, draft: CardDraft) -> AdapterCard:
        """Publish the adapter in `folder` as the next version.

        Args:
            folder: holds adapter_config.json and adapter_model.safetensors, as PEFT writes them.

        Raises:
            RegistryError: the name is not allowed, or the folder holds no adapter.
        """
        _check_name(name, "adapter")
        _check_adapter(folder)
        version = self._claim(name)
        target = f"adapters/{name}/versions/{version}"
        for file in (CONFIG, WEIGHTS):
            self.store.upload(folder / file, f"{target}/{file}")
        card = AdapterCard(
            **draft.model_dump(),
            adapter=name,
            version=version,
            weights_sha256=_sha256(folder / WEIGHTS),
            config_sha256=_sha256(folder / CONFIG),
            created_at=datetime.now(UTC),
        )
        self.store.create(f"{target}/{CARD}", card.model_dump_json(indent=1).encode())
        return card

    def _claim(self, name: str) -> int:
        """A number that nobody else has: half-published versions keep theirs for ever."""
        taken = [int(one) for one in self.store.list(f"adapters/{name}/versions") if one.isdigit()]
        version = max(taken, default=0) + 1
        while True:
            try:
                self.store.create(f"adapters/{name}/versions/{version}/claim", _who().encode())
            except ConflictError:
                version += 1
                continue
            return version

    def resolve(self, reference: str) -> ResolvedAdapter:
        """The version that a reference means now: `name` (its alias prod), `name@alias`, `name@3`.

        Raises:
            RegistryError: there is no such adapter, alias or version.
        """
        name, at, which = reference.partition("@")
        if at and not which:
            raise RegistryError(f"{reference!r} names no alias after the @.", where=reference, fix=f"Write {name}@prod.")
        if which.isdigit():
            if not self.store.exists(f"adapters/{name}/versions/{int(which)}/{CARD}"):
                raise self._no_version(name, int(which))
            return ResolvedAdapter(name, int(which))
        alias = which or DEFAULT_ALIAS
        move = self._last_move(name, alias) if _is_name(name) and _is_name(alias) else None
        if move is None:
            raise self._no_alias(name, alias)
        return ResolvedAdapter(name, move.version)

    def aliases(self, name: str) -> dict[str, int]:
        """The aliases of an adapter and the versions they point to."""
        moves = {alias: self._last_move(name, alias) for alias in self.store.list(f"adapters/{name}/aliases")}
        return {alias: move.version for alias, move in moves.items() if move is not None}

    def alias_history(self, name: str, alias: str) -> list[AliasMove]:
        """All moves of an alias, oldest first."""
        return [self._move(name, alias, seq) for seq in self._seqs(name, alias)]

    def promote(
        self, name: str, version: int, alias: str = DEFAULT_ALIAS, *, expected: int | str | None = ANY, reason: str = ""
    ) -> AliasMove:
        """Point an alias to a version, if it still points to `expected`.

        Args:
            expected: the version it has to point to now; None: it must not be there yet; ANY: whatever it is.

        Raises:
            RegistryError: there is no such version.
            ConflictError: somebody else moved the alias.
        """
        _check_name(alias, "alias")
        if not self.store.exists(f"adapters/{name}/versions/{version}/{CARD}"):
            raise self._no_version(name, version)
        last = self._last_move(name, alias)
        now = last.version if last else None
        if expected != ANY and now != expected:
            raise self._moved(name, alias, expected, now)
        move = AliasMove(
            seq=last.seq + 1 if last else 1, version=version, at=datetime.now(UTC), by=_who(), reason=reason
        )
        try:
            self.store.create(self._move_path(name, alias, move.seq), move.model_dump_json().encode())
        except ConflictError:
            if expected == ANY:
                return self.promote(name, version, alias, reason=reason)
            winner = self._last_move(name, alias)
            raise self._moved(name, alias, expected, winner.version if winner else None) from None
        return move

    def rollback(self, name: str, alias: str = DEFAULT_ALIAS, *, reason: str = "rollback") -> AliasMove:
        """Point an alias back to the version it had before the one it has; twice undoes the rollback.

        Raises:
            RegistryError: the alias was never moved.
            ConflictError: somebody else moved it in this moment.
        """
        moves = self.alias_history(name, alias)
        if not moves:
            raise self._no_alias(name, alias)
        now = moves[-1].version
        before = next((move.version for move in reversed(moves) if move.version != now), None)
        if before is None:
            raise RegistryError(
                f"{name}@{alias} has only ever pointed to version {now}.",
                where=f"{self.store.uri}/adapters/{name}/aliases/{alias}",
                fix=f"guitarfish adapters promote {name} VERSION --alias {alias}",
            )
        return self.promote(name, before, alias, expected=now, reason=reason)

    def fetch(self, name: str, version: int, folder: Path) -> Path:
        """Copy a version to this machine, checked against its card; several processes may do so at once.

        Args:
            folder: where it goes; a folder that is there already is taken for a finished copy.

        Raises:
            RegistryError: there is no such version, or it is damaged.
        """
        if folder.is_dir():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        try:
            self._fetch_checked(name, version, scratch)
            scratch.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return folder

    def _fetch_checked(self, name: str, version: int, scratch: Path) -> None:
        card = self.card(name, version)
        for file, digest in ((CONFIG, card.config_sha256), (WEIGHTS, card.weights_sha256)):
            path = f"adapters/{name}/versions/{version}/{file}"
            self.store.download(path, scratch / file)
            found = _sha256(scratch / file)
            if found != digest:
                raise RegistryError(
                    f"{file} of {name} version {version} is damaged: its sha256 is {found[:12]}…, "
                    f"its card says {digest[:12]}….",
                    where=f"{self.store.uri}/{path}",
                    fix=f"Roll back (guitarfish adapters rollback {name}) or publish it again.",
                )

    def verify(self, name: str, version: int) -> AdapterCard:
        """Read a version back whole and compare it with its card.

        Raises:
            RegistryError: it is not what the card says.
        """
        with tempfile.TemporaryDirectory(prefix="guitarfish-verify-") as scratch:
            self._fetch_checked(name, version, Path(scratch))
        return self.card(name, version)

    def _seqs(self, name: str, alias: str) -> list[int]:
        files = self.store.list(f"adapters/{name}/aliases/{alias}")
        return sorted(int(file.removesuffix(".json")) for file in files if re.fullmatch(r"\d+\.json", file))

    def _last_move(self, name: str, alias: str) -> AliasMove | None:
        seqs = self._seqs(name, alias)
        return self._move(name, alias, seqs[-1]) if seqs else None

    def _move(self, name: str, alias: str, seq: int) -> AliasMove:
        path = self._move_path(name, alias, seq)
        try:
            return AliasMove.model_validate_json(self.store.read(path))
        except ValidationError as error:
            raise RegistryError(
                f"A move of {name}@{alias} is damaged: {error.errors()[0]['msg']}",
                where=f"{self.store.uri}/{path}",
                fix="Restore the file from a backup.",
            ) from error

    @staticmethod
    def _move_path(name: str, alias: str, seq: int) -> str:
        return f"adapters/{name}/aliases/{alias}/{seq:08d}.json"

    def _moved(self, name: str, alias: str, expected: int | str | None, now: int | None) -> ConflictError:
        return ConflictError(
            f"{name}@{alias} was to be moved from version {expected}, but it points to {now}.",
            where=f"{self.store.uri}/adapters/{name}/aliases/{alias}",
            fix="Somebody else moved it: look at its history, then decide again.",
        )

    def _no_adapter(self, name: str) -> RegistryError:
        names = self.names()
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        if near:
            fix = f"Did you mean {near[0]}?"
        else:
            fix = f"There are: {', '.join(names)}." if names else "Publish one first: guitarfish train RUN.yaml"
        return RegistryError(f"There is no adapter {name!r}.", where=f"{self.store.uri}/adapters", fix=fix)

    def _no_version(self, name: str, version: int) -> RegistryError:
        versions = self.versions(name) if _is_name(name) else []
        if not versions:
            return self._no_adapter(name)
        return RegistryError(
            f"{name} has no version {version}.",
            where=f"{self.store.uri}/adapters/{name}/versions",
            fix=f"It has: {', '.join(map(str, versions))}.",
        )

    def _no_alias(self, name: str, alias: str) -> RegistryError:
        versions = self.versions(name) if _is_name(name) else []
        if not versions:
            return self._no_adapter(name)
        aliases = ", ".join(f"{one} (version {version})" for one, version in self.aliases(name).items()) or "none"
        return RegistryError(
            f"{name} has no alias {alias!r}.",
            where=f"{self.store.uri}/adapters/{name}/aliases",
            fix=f"It has: {aliases}. To make it: guitarfish adapters promote {name} {versions[-1]} --alias {alias}",
        )


def _is_name(text: str) -> bool:
    return re.fullmatch(NAME_PATTERN, text) is not None


def _check_name(name: str, what: str) -> None:
    if not _is_name(name):
        raise RegistryError(
            f"{name!r} cannot be the name of an {what}.",
            where=what,
            fix="Use small letters, digits and hyphens, 63 at most, a letter or a digit first.",
        )


def _check_adapter(folder: Path) -> None:
    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise RegistryError(
                f"{folder} has no {file}, so it is no adapter.",
                where=str(folder),
                fix="Name a folder that PEFT's save_pretrained wrote.",
            )
    try:
        json.loads((folder / CONFIG).read_text())
    except ValueError as error:
        raise RegistryError(
            f"{CONFIG} is not JSON: {error}", where=str(folder / CONFIG), fix="Save the adapter again."
        ) from error


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _who() -> str:
    return f"{user_name()}@{os.uname().nodename}"
