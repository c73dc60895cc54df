"""API keys in the store: who may use which adapters. Only a digest of a key is stored; the key is shown once.

Nothing is overwritten: keys/<id>/key.json, and keys/<id>/revoked.json once a key is revoked.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import Field

from cluster.machine.identity import whoami
from cluster.store.records import Record, damaged, parse_record
from cluster.store.storage import Store
from runspec.errors import ConflictError, ServingError
from runspec.publish import NAME_PATTERN
from runspec.strict import Strict

TOKEN = re.compile(r"gf-(?P<id>[0-9a-f]{8})-(?P<secret>[A-Za-z0-9_-]{43})", re.ASCII)
"""32 random bytes in URL-safe base64 are 43 characters."""
_PATH = re.compile(r"keys/(?P<id>[0-9a-f]{8})/(?P<file>key|revoked)\.json", re.ASCII)
KeyState = Literal["valid", "revoked", "expired"]
ANOTHER_KEY = "Move the file away and create another key."


class KeyRecord(Strict):
    """keys/<id>/key.json."""

    id: str = Field(pattern=r"^[0-9a-f]{8}$")
    """The public part of the key: it is in usage records and in metrics."""
    name: str = Field(pattern=NAME_PATTERN)
    """Whose it is, or what it is for."""
    secret_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the key's secret part. That has 256 random bits, so one round of a fast hash is as good as a slow one."""
    adapters: tuple[str, ...] | None
    """Adapters it may use, with all their versions and aliases. Null: all, including future ones."""
    base: bool
    """Whether it may use the base model."""
    created_at: datetime
    created_by: str
    """user@host."""
    expires_at: datetime | None

    def has_secret(self, secret: str) -> bool:
        """Whether a secret is this key's, compared in constant time."""
        return hmac.compare_digest(_digest(secret), self.secret_sha256)

    def may_use(self, adapter: str | None) -> bool:
        """Whether it may use an adapter, by name without version; None stands for the base model."""
        if adapter is None:
            return self.base
        return self.adapters is None or adapter in self.adapters


class Revocation(Strict):
    """keys/<id>/revoked.json."""

    at: datetime
    by: str
    """user@host."""


@dataclass(frozen=True)
class Key:
    record: KeyRecord
    revoked: Revocation | None

    def state(self, now: datetime) -> KeyState:
        if self.revoked is not None:
            return "revoked"
        expires = self.record.expires_at
        return "expired" if expires is not None and now >= expires else "valid"


@dataclass(frozen=True)
class NewKey:
    """A new key. Its token is known only now."""

    record: KeyRecord
    token: str = field(repr=False)
    """What clients send. Not in the repr, so that no log has it."""


def create_key(
    store: Store,
    name: str,
    *,
    adapters: Sequence[str] | None,
    base: bool,
    lifetime: timedelta | None = None,
) -> NewKey:
    """Make a key and store its record.

    Args:
        name: whose it is, or what it is for.
        adapters: names it may use; None for all.
        base: whether it may use the base model.
        lifetime: None for a key that does not expire.

    Raises:
        StoreError: the store cannot be written.
    """
    now = datetime.now(UTC)
    while True:
        key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
        record = KeyRecord(
            id=key_id,
            name=name,
            secret_sha256=_digest(secret),
            adapters=None if adapters is None else tuple(sorted(set(adapters))),
            base=base,
            created_at=now,
            created_by=whoami(),
            expires_at=now + lifetime if lifetime else None,
        )
        try:
            Record(store, f"keys/{key_id}/key.json", KeyRecord).write(record)
        except ConflictError:
            continue  # of 4 billion ids this one is taken
        return NewKey(record, f"gf-{key_id}-{secret}")


def list_keys(store: Store) -> list[Key]:
    """All keys, oldest first. Raises StoreError if a record is damaged."""
    return sorted(
        parse_keys(store, store.read_many(key_paths(store))), key=lambda key: (key.record.created_at, key.record.id)
    )


def revoke_key(store: Store, text: str) -> Key:
    """Revoke the key with this id or name; revoking it again changes nothing.

    Raises:
        ServingError: no key has this id or name, or several have this name.
    """
    keys = list_keys(store)
    found = [key for key in keys if key.record.id == text] or [key for key in keys if key.record.name == text]
    if len(found) != 1:
        raise _not_one(store, text, found, keys)
    (key,) = found
    if key.revoked is not None:
        return key
    revocation = Revocation(at=datetime.now(UTC), by=whoami())
    try:
        Record(store, f"keys/{key.record.id}/revoked.json", Revocation).write(revocation)
    except ConflictError:
        return revoke_key(store, key.record.id)  # another was first: theirs is the record
    return Key(key.record, revocation)


def key_paths(store: Store) -> list[str]:
    """Paths of all records of keys."""
    return [path for path in store.walk("keys") if _PATH.fullmatch(path)]


def parse_keys(store: Store, contents: Mapping[str, bytes]) -> list[Key]:
    """Keys from the contents of their records, by path.

    Raises:
        StoreError: a record is damaged; the message does not quote it.
    """
    revoked = {path for path in contents if path.endswith("/revoked.json")}
    keys = []
    for path in sorted(set(contents) - revoked):
        record = parse_record(store, path, contents[path], KeyRecord, fix=ANOTHER_KEY)
        other = f"keys/{record.id}/revoked.json"
        if path != f"keys/{record.id}/key.json":
            raise damaged(store, path, "it is the record of another key", fix=ANOTHER_KEY)
        revocation = None
        if other in revoked:
            revocation = parse_record(store, other, contents[other], Revocation, fix=ANOTHER_KEY)
        keys.append(Key(record, revocation))
    return keys


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _not_one(store: Store, text: str, found: Sequence[Key], keys: Sequence[Key]) -> ServingError:
    where = f"{store.uri}/keys"
    if found:
        ids = ", ".join(key.record.id for key in found)
        return ServingError(f"{len(found)} keys are named `{text}`.", where=where, fix=f"Use one of the ids: {ids}.")
    if text.startswith("gf-"):
        fix = "Use its id, the 8 characters after `gf-`: a key does not belong on a command line."
        return ServingError("This is a key, not its id.", where=where, fix=fix)
    known = ", ".join(f"{key.record.id} ({key.record.name})" for key in keys[-5:])
    fix = f"Use one of: {known}." if known else "This store has no keys; choose another with --store."
    return ServingError(f"Key `{text}` not found.", where=where, fix=fix)
