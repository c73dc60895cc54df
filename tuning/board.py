"""A Ray actor between the trials of a search and its driver: events and endings one way, requests to stop the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray

from cluster.billing.ledger import Outcome
from training.worker.job import Event

OVER_BUDGET = "the search's budget was spent"
BY_USER = "stopped by the user"


@dataclass(frozen=True)
class Ending:
    """How a trial ended, as the trial itself reports it."""

    outcome: Outcome
    reason: str = ""


class SearchBoard:
    """Trials are named by their numbers."""

    def __init__(self) -> None:
        self._events: list[tuple[int, Event]] = []
        self._endings: dict[int, Ending] = {}
        self._pruned: set[int] = set()
        self._stop_all = ""

    def post(self, number: int, event: Event) -> None:
        self._events.append((number, event))

    def end(self, number: int, ending: Ending) -> None:
        self._endings[number] = ending

    def fetch(self) -> list[tuple[int, Event]]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events

    def ending(self, number: int) -> Ending | None:
        """None where the trial was lost before it could report."""
        return self._endings.get(number)

    def prune(self, number: int) -> None:
        """Ask a trial to stop at its current checkpoint."""
        self._pruned.add(number)

    def stop_all(self, reason: str) -> None:
        """Ask all trials that are still training to stop after the current step."""
        self._stop_all = reason

    def is_pruned(self, number: int) -> bool:
        return number in self._pruned

    def stop_reason(self) -> str:
        """Empty while the trials are not to stop."""
        return self._stop_all


def start_search_board() -> Any:
    """Start the actor on the driver's node, without claiming a CPU."""
    return ray.remote(num_cpus=0, max_restarts=0)(SearchBoard).remote()
