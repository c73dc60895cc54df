"""Writes a server's usage into the store now and then, and keeps what could not be written for the next time."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from threading import Lock

from cluster.billing.usage import UsageRecord, write_usage
from cluster.store.storage import Store
from runspec.errors import ConflictError, StoreError
from serving.door.metering import Meter

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
"""How often the replicas are counted."""
KEPT = 1000
"""Records kept at most while the store does not answer."""


class Bookkeeper:
    """Counts the replicas, and writes what the meter has added up.

    Args:
        meter: of this server.
        store: where the ledger is.
        count_replicas: asks the cluster, on a thread of its own; None where it does not know.
    """

    def __init__(self, meter: Meter, store: Store, count_replicas: Callable[[], int | None]) -> None:
        self._meter = meter
        self._store = store
        self._count_replicas = count_replicas
        self._waiting: deque[UsageRecord] = deque(maxlen=KEPT)
        self._writing = Lock()  # the last writing may begin while one that was cancelled is still on its thread

    async def run(self) -> None:
        """Keep the books until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            number = await asyncio.to_thread(self._count_replicas)
            if number is not None:
                self._meter.replicas(number)
            if self._meter.due():
                await self.write()

    async def write(self) -> None:
        """Write what has been counted since the last record."""
        self._waiting.append(self._meter.cut())
        await asyncio.to_thread(self._write_waiting)

    def _write_waiting(self) -> None:
        """A record is tried again as it was: one that had arrived, and only its receipt was lost, is there already."""
        with self._writing:
            while self._waiting:
                try:
                    write_usage(self._store, self._waiting[0])
                except ConflictError:
                    pass
                except StoreError as error:
                    log.warning("usage is not written yet (%s records wait): %s", len(self._waiting), error.what)
                    return
                self._waiting.popleft()


def log_end(task: asyncio.Task[None]) -> None:
    """Say so if the books are no longer kept: nobody waits for the task that keeps them."""
    if not task.cancelled() and task.exception() is not None:
        log.error("usage is no longer written", exc_info=task.exception())
