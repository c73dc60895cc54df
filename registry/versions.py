"""Versions of one adapter: claimed by exclusive create, filled, and made visible by the card, which comes last."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from cluster.machine.identity import whoami
from cluster.store.records import Record, damaged, parse_record
from cluster.store.storage import Store
from registry.card import SCHEMA_VERSION, AdapterCard, CardDraft
from registry.references import suggest
from registry.weights import CONFIG, WEIGHTS, AdapterFiles, checksums, inspect
from runspec.errors import ConflictError, RegistryError

CARD = "card.json"
CLAIM = "claim.json"
"""Takes a version's number; without a card beside it, its publisher was killed, or is still at work."""
_CARD_PATH = re.compile(r"adapters/(?P<name>[^/]+)/versions/(?P<version>[1-9][0-9]*)/card\.json")
_REPLACES = 10
PUBLISH_AGAIN = "Publish the adapter again, and roll the alias back meanwhile."


class Versions:
    """The versions of one adapter."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._folder = f"adapters/{name}/versions"

    def visible(self) -> list[int]:
        """The versions that have a card, in their order: one listing."""
        return visible_versions(self._store.walk(self._folder)).get(self._name, [])

    def exists(self, version: int) -> bool:
        """Whether a version is visible."""
        return self._store.exists(self._path(version, CARD))

    def card(self, version: int) -> AdapterCard:
        """The card of a version. Raises RegistryError where there is no such version or the card is damaged."""
        return self._parse(version, self._card_bytes(version))

    def no_such_version(self, version: int) -> RegistryError:
        """The error for a version that is not visible, naming those that are."""
        versions = self.visible()
        have = f"there is {', '.join(str(number) for number in versions[-10:])}"
        fix = have if versions else "publish one: guitarfish adapters publish"
        what = f"{self._name} has no version {version}"
        return RegistryError(what, where=f"{self._store.uri}/{self._folder}", fix=fix)

    def publish(self, folder: Path, draft: CardDraft) -> AdapterCard:
        """Upload an adapter as the next version. Killed at any moment, it leaves nothing visible.

        Raises:
            RegistryError: the folder holds no whole adapter, or another one than the card describes.
        """
        files = inspect(folder)
        if isinstance(draft, AdapterCard) and draft.weights_sha256 != files.weights_sha256:
            raise RegistryError(
                f"the weights are not those of the card of {draft.adapter}", where=str(folder / WEIGHTS)
            )
        version = self._claim()
        for name in (CONFIG, WEIGHTS):
            self._store.upload(folder / name, self._path(version, name))
        card = self._card_of(draft, version, files)
        Record(self._store, self._path(version, CARD), AdapterCard).write(card)
        return card

    def _claim(self) -> int:
        taken = [int(name) for name in self._store.list(self._folder) if name.isdigit()]
        version = max(taken, default=0) + 1
        claim = {"by": whoami(), "pid": os.getpid(), "at": datetime.now(UTC).isoformat()}
        while True:
            try:
                self._store.create_json(self._path(version, CLAIM), claim)
            except ConflictError:
                version += 1
            else:
                return version

    def _card_of(self, draft: CardDraft, version: int, files: AdapterFiles) -> AdapterCard:
        known = {name: getattr(draft, name) for name in CardDraft.model_fields}
        return AdapterCard(
            **known,
            adapter=self._name,
            version=version,
            weights_sha256=files.weights_sha256,
            config_sha256=files.config_sha256,
            created_at=datetime.now(UTC),
            created_by=whoami(),
        )

    def verify(self, version: int) -> AdapterCard:
        """Download a version and compare it with its card.

        Raises:
            RegistryError: a checksum differs, or a file is not what its name says.
        """
        card = self.card(version)
        with TemporaryDirectory(prefix="guitarfish-verify-") as folder:
            self._download(version, Path(folder))
            self._compare(card, Path(folder))
            inspect(Path(folder))
        return card

    def fetch(self, version: int, folder: Path) -> Path:
        """Make `folder` hold a version: both files and the card. What is there already and whole is kept.

        Several processes may fetch into the same folder: each sees it whole or not at all.

        Raises:
            RegistryError: the version does not exist or is damaged, or the folder holds something else.
        """
        content = self._card_bytes(version)
        card = self._parse(version, content)
        if self._holds(folder, card, content):
            return folder
        _check_free(folder)
        staging = folder.with_name(f".{folder.name}-{uuid4().hex}")
        try:
            self._download(version, staging)
            self._compare(card, staging)
            (staging / CARD).write_bytes(content)
            self._put_in_place(staging, folder, card, content)
        except OSError as error:
            raise RegistryError(f"the adapter cannot be stored here: {error.strerror}", where=str(folder)) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return folder

    def _download(self, version: int, folder: Path) -> None:
        for name in (CONFIG, WEIGHTS):
            self._store.download(self._path(version, name), folder / name)

    def _compare(self, card: AdapterCard, folder: Path) -> None:
        """Raises RegistryError where files differ from what was published."""
        found = checksums(folder)
        for name, ours, theirs in (
            (CONFIG, found.config_sha256, card.config_sha256),
            (WEIGHTS, found.weights_sha256, card.weights_sha256),
        ):
            if ours != theirs:
                differ = f"sha256 is {ours[:12]}, the card says {theirs[:12]}"
                raise RegistryError(
                    f"{name} of {self._name}@{card.version} is damaged: {differ}",
                    where=f"{self._store.uri}/{self._path(card.version, name)}",
                    fix="publish the adapter again, and roll the alias back meanwhile",
                )

    def _holds(self, folder: Path, card: AdapterCard, content: bytes) -> bool:
        if not all((folder / name).is_file() for name in (CONFIG, WEIGHTS, CARD)):
            return False
        if (folder / CARD).read_bytes() != content:
            return False
        return checksums(folder) == AdapterFiles(card.config_sha256, card.weights_sha256)

    def _put_in_place(self, staging: Path, folder: Path, card: AdapterCard, content: bytes) -> None:
        """Rename, which fails where another fetcher was first: its files are as good, if they are whole."""
        for _ in range(_REPLACES):
            try:
                os.rename(staging, folder)
                return
            except OSError:
                if not folder.exists():
                    raise
            if self._holds(folder, card, content):
                return
            _set_aside(folder)
        raise RegistryError("the folder is filled by others all the time", where=str(folder))

    def _card_bytes(self, version: int) -> bytes:
        content = self._store.read_if_there(self._path(version, CARD))
        if content is None:
            raise self.no_such_version(version)
        return content

    def _parse(self, version: int, content: bytes) -> AdapterCard:
        path = self._path(version, CARD)
        _check_schema(content, f"{self._store.uri}/{path}")
        card = parse_record(self._store, path, content, AdapterCard, fix=PUBLISH_AGAIN, kind=RegistryError)
        if (card.adapter, card.version) != (self._name, version):
            problem = f"it is the card of {card.adapter}@{card.version}"
            raise damaged(self._store, path, problem, fix=PUBLISH_AGAIN, kind=RegistryError)
        return card

    def _path(self, version: int, name: str) -> str:
        return f"{self._folder}/{version}/{name}"


def visible_versions(paths: Iterable[str]) -> dict[str, list[int]]:
    """Versions by adapter, out of the paths of their files: those that have a card."""
    found: dict[str, list[int]] = {}
    for path in paths:
        if match := _CARD_PATH.fullmatch(path):
            found.setdefault(match["name"], []).append(int(match["version"]))
    return {name: sorted(versions) for name, versions in found.items()}


def no_such_adapter(store: Store, name: str, known: Iterable[str]) -> RegistryError:
    """The error for an adapter that has no version, naming the nearest that have."""
    none = "the registry is empty; guitarfish train publishes into it"
    return RegistryError(f"there is no adapter {name!r}", where=f"{store.uri}/adapters", fix=suggest(name, known, none))


def _check_schema(content: bytes, where: str) -> None:
    try:
        schema = json.loads(content).get("schema_version")
    except (ValueError, AttributeError, RecursionError):
        return
    if isinstance(schema, int) and schema > SCHEMA_VERSION:
        raise RegistryError(f"The card has schema {schema}.", where=where, fix="Use a newer Guitarfish.")


def _check_free(folder: Path) -> None:
    """Raises RegistryError where a folder holds what is no adapter's: it would be replaced."""
    if not folder.exists():
        return
    strangers = set(os.listdir(folder)) - {CONFIG, WEIGHTS, CARD} if folder.is_dir() else {"a file"}
    if strangers:
        what = f"the folder is in use: it holds {', '.join(sorted(strangers)[:3])}"
        raise RegistryError(what, where=str(folder), fix="name a folder that does not exist yet")


def _set_aside(folder: Path) -> None:
    """Take a damaged copy out of the way; another fetcher may have done so already."""
    aside = folder.with_name(f".{folder.name}-{uuid4().hex}")
    try:
        os.rename(folder, aside)
    except FileNotFoundError:
        return
    shutil.rmtree(aside, ignore_errors=True)
