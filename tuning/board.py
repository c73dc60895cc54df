"""The board of a search: trials post events and how they ended, the driver posts which of them are to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cluster.billing.ledger import Outcome
from training.worker.job import Event

OVER_BUDGET = "the search's budget was spent"
BY_USER = "stopped by the user"


@dataclass(frozen=True)
class Ending:
    """How a trial ended, told by the trial itself."""

    outcome: Outcome
    reason: str = ""


class SearchBoard:
    """An actor that lives as long as the search. Trials are named by their numbers."""

    def __init__(self) -> None:
        self._events: list[tuple[int, Event]] = []
        self._endings: dict[int, Ending] = {}
        self._stops: dict[int, Outcome] = {}
        self._stop_all = ""

    def post(self, number: int, event: Event) -> None:
        """Add an event; trials do not wait for it."""
        self._events.append((number, event))

    def end(self, number: int, ending: Ending) -> None:
        """Say how a trial ended."""
        self._endings[number] = ending

    def fetch(self) -> list[tuple[int, Event]]:
        """The events since the last call, in their order."""
        events, self._events = self._events, []
        return events

    def ending(self, number: int) -> Ending | None:
        """How a trial said that it ended; None where it did not come to that."""
        return self._endings.get(number)

    def prune(self, number: int) -> None:
        """Ask a trial to stop at the checkpoint it is at."""
        self._stops[number] = "pruned"

    def stop_all(self, reason: str) -> None:
        """Ask all trials that are still training to stop after the step they are in."""
        self._stop_all = reason

    def is_pruned(self, number: int) -> bool:
        """Whether others are ahead of this trial."""
        return number in self._stops

    def stop_reason(self) -> str:
        """Why all trials are to stop; empty while they are not."""
        return self._stop_all


def start_search_board() -> Any:
    """Start the actor on the driver's node, without claiming a CPU."""
    import ray

    return ray.remote(num_cpus=0, max_restarts=0)(SearchBoard).remote()
