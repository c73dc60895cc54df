"""The keys a server takes, remembered for a second: read from the store off the event loop, all at once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cluster.store.storage import Store
from runspec.errors import StoreError
from serving.door.keys import TOKEN, Key, KeyRecord, key_paths, parse_keys

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refusal:
    """Why a request is not let in. `reason` is for the client, and quotes nothing of what it sent."""

    reason: str


class KeyRing:
    """Looks keys up by the header that clients send.

    The store is listed at most once in `seconds`, whatever is asked: strangers who try keys cost no more than one
    client. What a listing shows for the first time is read; records never change. When the store does not answer,
    the last keys go on being taken: serving outlives the store.
    """

    def __init__(self, store: Store, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._seconds = seconds
        self._clock = clock
        self._contents: dict[str, bytes] = {}
        self._keys: dict[str, Key] = {}
        self._read_at: float | None = None
        self._reading: asyncio.Task[None] | None = None

    async def admit(self, authorization: str | None) -> KeyRecord | Refusal:
        """The key in an Authorization header, or why it is not taken.

        Raises:
            StoreError: the store does not answer, and never did.
        """
        if authorization is None:
            return Refusal("This server asks for an API key: send `Authorization: Bearer gf-...`.")
        scheme, _, token = authorization.strip().partition(" ")
        match = TOKEN.fullmatch(token.strip())
        if scheme.lower() != "bearer" or match is None:
            return Refusal("The API key is not one of this server: they look like `Authorization: Bearer gf-...`.")
        await self._refresh()
        key = self._keys.get(match["id"])
        if key is None or not key.record.has_secret(match["secret"]):
            return Refusal("The API key is not known here.")
        state = key.state(datetime.now(UTC))
        return key.record if state == "valid" else Refusal(f"The API key {key.record.id} is {state}.")

    async def _refresh(self) -> None:
        """Read the keys if they are older than `seconds`; one reading at a time, which all wait for."""
        if self._read_at is not None and self._clock() - self._read_at <= self._seconds:
            return
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(self._forget_reading)
        await asyncio.shield(self._reading)

    def _forget_reading(self, reading: asyncio.Task[None]) -> None:
        self._reading = None
        if not reading.cancelled():
            reading.exception()  # taken note of, where the request that waited for it has gone

    async def _read(self) -> None:
        try:
            self._keys = await asyncio.to_thread(self._list)
        except StoreError as error:
            if self._read_at is None:
                raise
            log.warning("the store does not answer, the last known keys are taken: %s", error.what)
        self._read_at = self._clock()

    def _list(self) -> dict[str, Key]:
        paths = list(key_paths(self._store))
        self._contents |= self._store.read_many([path for path in paths if path not in self._contents])
        keys: dict[str, Key] = {}
        for path in paths:
            if path.endswith("/key.json"):
                folder = path.removesuffix("key.json")
                records = {one: self._contents[one] for one in (path, f"{folder}revoked.json") if one in paths}
                keys |= self._parse(path, records)
        return keys

    def _parse(self, path: str, records: dict[str, bytes]) -> dict[str, Key]:
        """One key by its id. One that is damaged is not taken, and harms no other."""
        try:
            return {key.record.id: key for key in parse_keys(self._store, records)}
        except StoreError as error:
            log.warning("%s is not taken: %s", path, error.what)
            return {}
