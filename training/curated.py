"""The curated data of a run in its store: the rows of both sides, and a summary of what became of them."""

from __future__ import annotations

import contextlib
import json

from cluster.storage import Store
from runspec.errors import ConflictError
from runspec.strict import Strict
from training.data.curate import Curated
from training.data.example import Example
from training.rows import Side, write_examples


class CuratedRun(Strict):
    """What became of the data of a run; the rows themselves lie beside it."""

    layout: str
    """The rows' layout, found or named."""
    fates: dict[str, int]
    """Rows by fate."""
    digest: str
    """sha256 over all rows and their sides."""
    notes: list[str]
    """Lines for the user: counts, warnings."""


SUMMARY = "data/summary.json"


def store_curated(store: Store, run_id: str, curated: Curated) -> None:
    """Write both sides, the bad rows, and last the summary."""
    sides: tuple[tuple[Side, list[Example]], ...] = (("train", curated.train), ("holdout", curated.holdout))
    for side, examples in sides:
        # They are there already where a driver was killed before it wrote the summary: same spec, same rows.
        with contextlib.suppress(ConflictError):
            write_examples(store, run_id, side, examples)
    if curated.bad_rows and not store.exists(bad := f"runs/{run_id}/data/bad_rows.jsonl"):
        store.create(bad, "".join(json.dumps(vars(row)) + "\n" for row in curated.bad_rows).encode())
    counts = f"{len(curated.train)} training rows, {len(curated.holdout)} held out, layout {curated.layout}"
    aside = [f"{len(curated.bad_rows)} bad rows set aside in data/bad_rows.jsonl"] if curated.bad_rows else []
    summary = CuratedRun(
        layout=curated.layout,
        fates=vars(curated.fates),
        digest=curated.digest,
        notes=[counts, *aside, *(f"warning: {text}" for text in curated.warnings)],
    )
    store.create(f"runs/{run_id}/{SUMMARY}", summary.model_dump_json(indent=1).encode())


def read_curated(store: Store, run_id: str) -> CuratedRun:
    """The summary of a run's data."""
    return CuratedRun.model_validate_json(store.read(f"runs/{run_id}/{SUMMARY}"))
