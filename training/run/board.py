"""A Ray actor between the workers and the driver: events one way, the request to stop the other. It imports no
torch: the actor starts with it."""

from __future__ import annotations

from typing import Any

import ray

from runspec.errors import GuitarfishError
from training.worker.job import Event


class Board:
    """Keeps the events that the driver has not fetched yet. Lives as long as the driver."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._stop = False
        self._failure: GuitarfishError | None = None

    def post(self, event: Event) -> None:
        self._events.append(event)

    def fetch(self) -> list[Event]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events

    def request_stop(self) -> None:
        self._stop = True

    def stop_requested(self) -> bool:
        return self._stop

    def fail(self, error: GuitarfishError) -> None:
        """Keep an error that another attempt cannot fix."""
        self._failure = error

    def failure(self) -> GuitarfishError | None:
        """Such an error of an earlier attempt: Ray Train restarts a group whatever the cause was."""
        return self._failure


def start_board() -> Any:
    """Start the actor on the driver's node, without claiming a CPU."""
    return ray.remote(num_cpus=0, max_restarts=0)(Board).remote()
