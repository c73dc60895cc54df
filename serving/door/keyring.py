"""The keys that a server accepts: read from the store off the event loop, all at once, and cached for a second."""

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
    """Why a request is refused. `reason` is for the client, and never quotes what it sent."""

    reason: str


class KeyRing:
    """Looks keys up by the Authorization header.

    The store is listed at most once in `seconds`, whatever is asked, so guessing keys costs no more than one client.
    Only new records are read: records never change. While the store does not answer, the last known keys are
    accepted: serving goes on without the store.
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
        """The key in an Authorization header, or why it is refused.

        Raises:
            StoreError: the store has never answered.
        """
        if authorization is None:
            return Refusal("This server requires an API key. Send `Authorization: Bearer gf-...`.")
        scheme, _, token = authorization.strip().partition(" ")
        match = TOKEN.fullmatch(token.strip())
        if scheme.lower() != "bearer" or match is None:
            return Refusal("This is not an API key of this server. Send `Authorization: Bearer gf-...`.")
        await self._refresh()
        key = self._keys.get(match["id"])
        if key is None or not key.record.has_secret(match["secret"]):
            return Refusal("Unknown API key.")
        state = key.state(datetime.now(UTC))
        return key.record if state == "valid" else Refusal(f"The API key {key.record.id} is {state}.")

    async def _refresh(self) -> None:
        """Read the keys if they are older than `seconds`; one read at a time, which all requests wait for."""
        if self._read_at is not None and self._clock() - self._read_at <= self._seconds:
            return
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(self._forget_reading)
        await asyncio.shield(self._reading)

    def _forget_reading(self, reading: asyncio.Task[None]) -> None:
        self._reading = None
        if not reading.cancelled():
            reading.exception()  # retrieved, in case the request that waited for it has gone

    async def _read(self) -> None:
        try:
            self._keys = await asyncio.to_thread(self._list)
        except StoreError as error:
            if self._read_at is None:
                raise
            log.warning("the store does not answer; using the last known keys: %s", error.what)
        self._read_at = self._clock()

    def _list(self) -> dict[str, Key]:
        paths = key_paths(self._store)
        self._contents |= self._store.read_many([path for path in paths if path not in self._contents])
        keys: dict[str, Key] = {}
        for path in paths:
            if path.endswith("/key.json"):
                folder = path.removesuffix("key.json")
                records = {one: self._contents[one] for one in (path, f"{folder}revoked.json") if one in paths}
                try:
                    keys |= {key.record.id: key for key in parse_keys(self._store, records)}
                except StoreError as error:  # this key is refused; the others work
                    log.warning("%s is ignored: %s", path, error.what)
        return keys
