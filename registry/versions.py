"""Versions of one adapter: claimed by exclusive create, uploaded, and made visible by the card, which comes last."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from cluster.machine.identity import whoami
from cluster.store.records import Record, damaged, parse_record
from cluster.store.storage import Store
from registry.card import SCHEMA_VERSION, AdapterCard, CardDraft
from registry.references import suggest, versions_folder
from registry.weights import CONFIG, WEIGHTS, AdapterFiles, checksums, inspect
from runspec.errors import ConflictError, RegistryError

CARD = "card.json"
CLAIM = "claim.json"
"""Reserves a version's number; without a card beside it, its publisher was killed or is still uploading."""
_CARD_PATH = re.compile(r"adapters/(?P<name>[^/]+)/versions/(?P<version>[1-9][0-9]*)/card\.json")
_REPLACES = 10
PUBLISH_AGAIN = "Publish the adapter again, and roll the alias back meanwhile."


class Versions:
    """The versions of one adapter."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._folder = versions_folder(name)

    def visible(self) -> list[int]:
        """The versions that have a card, in order: one listing."""
        return visible_versions(self._store.walk(self._folder)).get(self._name, [])

    def exists(self, version: int) -> bool:
        return self._store.exists(self._path(version, CARD))

    def card(self, version: int) -> AdapterCard:
        """The card of a version. Raises RegistryError if the version does not exist or its card is damaged."""
        return self._parse(version, self._card_bytes(version))

    def no_such_version(self, version: int) -> RegistryError:
        """The error for a version that does not exist, listing those that do; the adapter may not exist either."""
        versions = self.visible()
        if not versions:
            return no_such_adapter(self._store, self._name)
        what = f"Adapter `{self._name}` has no version {version}."
        fix = f"Use one of: {', '.join(str(number) for number in versions[-10:])}."
        return RegistryError(what, where=f"{self._store.uri}/{self._folder}", fix=fix)

    def publish(self, folder: Path, draft: CardDraft) -> AdapterCard:
        """Upload an adapter as the next version. If the process is killed, nothing becomes visible.

        Raises:
            RegistryError: the folder has no complete adapter, or its weights are not those that the card describes.
        """
        files = inspect(folder)
        if isinstance(draft, AdapterCard) and draft.weights_sha256 != files.weights_sha256:
            raise RegistryError(
                f"The weights do not match the card of `{draft.adapter}@{draft.version}`.",
                where=str(folder / WEIGHTS),
                fix="Publish the weights that the card was written for.",
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
            RegistryError: a checksum differs, or a file is not valid.
        """
        card = self.card(version)
        with TemporaryDirectory(prefix="guitarfish-verify-") as folder:
            self._download(version, Path(folder))
            self._compare(card, Path(folder))
            inspect(Path(folder))
        return card

    def fetch(self, version: int, folder: Path) -> Path:
        """Download a version into `folder`: both files and the card. An intact copy that is already there is kept.

        Several processes may fetch into the same folder: each sees it complete or not at all.

        Raises:
            RegistryError: the version does not exist or is damaged, or the folder contains something else.
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
            raise RegistryError(f"The adapter cannot be stored here: {error.strerror}.", where=str(folder)) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return folder

    def _download(self, version: int, folder: Path) -> None:
        for name in (CONFIG, WEIGHTS):
            self._store.download(self._path(version, name), folder / name)

    def _compare(self, card: AdapterCard, folder: Path) -> None:
        found = checksums(folder)
        for name, ours, theirs in (
            (CONFIG, found.config_sha256, card.config_sha256),
            (WEIGHTS, found.weights_sha256, card.weights_sha256),
        ):
            if ours != theirs:
                raise RegistryError(
                    f"{name} of {self._name}@{card.version} is damaged: its sha256 is {ours[:12]}, "
                    f"but the card says {theirs[:12]}.",
                    where=f"{self._store.uri}/{self._path(card.version, name)}",
                    fix="Publish the adapter again, and roll the alias back meanwhile.",
                )

    def _holds(self, folder: Path, card: AdapterCard, content: bytes) -> bool:
        if not all((folder / name).is_file() for name in (CONFIG, WEIGHTS, CARD)):
            return False
        files = AdapterFiles(card.config_sha256, card.weights_sha256)
        return (folder / CARD).read_bytes() == content and checksums(folder) == files

    def _put_in_place(self, staging: Path, folder: Path, card: AdapterCard, content: bytes) -> None:
        """Rename, which fails if another fetcher was first: its files are as good, if they are intact."""
        for _ in range(_REPLACES):
            try:
                os.rename(staging, folder)
                return
            except OSError:
                if not folder.exists():
                    raise
            if self._holds(folder, card, content):
                return
            aside = folder.with_name(f".{folder.name}-{uuid4().hex}")
            with suppress(FileNotFoundError):  # another fetcher may have moved the damaged copy already
                os.rename(folder, aside)
                shutil.rmtree(aside, ignore_errors=True)
        raise RegistryError("Other processes keep replacing this folder.", where=str(folder), fix="Try again.")

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
    """Versions by adapter, from the paths of their files: those that have a card."""
    found: dict[str, list[int]] = {}
    for path in paths:
        if match := _CARD_PATH.fullmatch(path):
            found.setdefault(match["name"], []).append(int(match["version"]))
    return {name: sorted(versions) for name, versions in found.items()}


def no_such_adapter(store: Store, name: str) -> RegistryError:
    """The error for an adapter without a version, naming the nearest ones."""
    none = "The registry is empty: publish an adapter with `guitarfish train` or `guitarfish adapters publish`."
    fix = suggest(name, visible_versions(store.walk("adapters")), none)
    return RegistryError(f"Adapter `{name}` not found.", where=f"{store.uri}/adapters", fix=fix)


def _check_schema(content: bytes, where: str) -> None:
    try:
        schema = json.loads(content).get("schema_version")
    except (ValueError, AttributeError, RecursionError):
        return
    if isinstance(schema, int) and schema > SCHEMA_VERSION:
        raise RegistryError(f"The card has schema {schema}.", where=where, fix="Use a newer Guitarfish.")


def _check_free(folder: Path) -> None:
    """Raises RegistryError if a folder has files that are not an adapter's: they would be lost."""
    if not folder.exists():
        return
    strangers = set(os.listdir(folder)) - {CONFIG, WEIGHTS, CARD} if folder.is_dir() else {"a file"}
    if strangers:
        what = f"The folder is in use: it contains {', '.join(sorted(strangers)[:3])}."
        raise RegistryError(what, where=str(folder), fix="Use a folder that does not exist yet.")
