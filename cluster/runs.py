"""The runs of a store: their ids, and what each one left there."""

from __future__ import annotations

import difflib
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cluster.storage import Store
from runspec.errors import UserError


def new_run_id(name: str) -> str:
    """An id for a new run: its name, the time, and four hex digits against two runs in one second."""
    return f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class RunSummary:
    """One run as a list shows it.

    Attributes:
        run_id: folder below `runs/`.
        state: published, kept, or unfinished (it has no receipt: failed, stopped or going on).
        usd: dollars of the receipt; None while there is none.
        receipt: the receipt's JSON, or None.
    """

    run_id: str
    state: str
    usd: float | None
    receipt: dict[str, Any] | None


def list_runs(store: Store) -> list[RunSummary]:
    """All runs of a store, newest last."""
    return [summarise(store, run_id) for run_id in sorted(store.list("runs"), key=_when)]


def summarise(store: Store, run_id: str) -> RunSummary:
    """One run, from its receipt where it has one."""
    path = f"runs/{run_id}/receipt.json"
    if not store.exists(path):
        return RunSummary(run_id, "unfinished", None, None)
    receipt = json.loads(store.read(path))
    return RunSummary(run_id, receipt["outcome"], receipt["usd"], receipt)


def find_run(store: Store, wanted: str) -> str:
    """The run with this id, or the only one whose id begins with it.

    Raises:
        UserError: there is none, or there are several.
    """
    ids = sorted(store.list("runs"), key=_when)
    if wanted in ids:
        return wanted
    begins = [run_id for run_id in ids if run_id.startswith(wanted)]
    if len(begins) == 1:
        return begins[0]
    where = f"{store.uri}/runs"
    if begins:
        raise UserError(f"{len(begins)} runs begin with {wanted!r}.", where=where, fix=f"One of: {', '.join(begins)}")
    near = difflib.get_close_matches(wanted, ids, n=1, cutoff=0.5)
    fix = f"Did you mean {near[0]}?" if near else (f"The last run is {ids[-1]}." if ids else "The store has no runs.")
    raise UserError(f"There is no run {wanted!r}.", where=where, fix=fix)


def _when(run_id: str) -> tuple[str, str]:
    parts = run_id.rsplit("-", 3)
    return ("-".join(parts[1:3]) if len(parts) == 4 else "", run_id)
