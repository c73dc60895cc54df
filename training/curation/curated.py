"""The curated data of a run in its store: the rows of both sides, and a summary of what became of them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence

from cluster.store.storage import Store
from runspec.errors import ConflictError
from runspec.strict import Strict
from training.curation.curate import BadRow, Curated
from training.curation.funnel import Dropped, Step
from training.data.example import Example
from training.data.rows import Side, write_examples


class CuratedRun(Strict):
    """What became of the data of a run; the rows themselves lie beside it."""

    layout: str
    """The rows' layout, found or named."""
    funnel: tuple[Step, ...]
    """What became of the rows, line by line; the changes add up to the training rows."""
    digest: str
    """sha256 over all rows and their sides."""
    notes: list[str]
    """Lines for the user: counts, warnings."""


SUMMARY = "data/summary.json"
LEAKS = "data/leaks.json"
DROPPED = "data/dropped.jsonl"
TRIAL = "trial.json"
"""What makes a run a trial of a search: names the search, in whose folder the data lies."""


def store_curated(store: Store, run_id: str, curated: Curated) -> None:
    """Write both sides, the rows that were left out with the reason, the leak certificate, and last the summary."""
    sides: tuple[tuple[Side, list[Example]], ...] = (("train", curated.train), ("holdout", curated.holdout))
    for side, examples in sides:
        # They are there already where a driver was killed before it wrote the summary: same spec, same rows.
        with contextlib.suppress(ConflictError):
            write_examples(store, run_id, side, examples)
    certificate = curated.certificate.model_dump_json(indent=1)
    aside = {
        "data/bad_rows.jsonl": _lines(curated.bad_rows),
        DROPPED: _lines(curated.funnel.dropped),
        LEAKS: certificate,
    }
    for name, text in aside.items():
        with contextlib.suppress(ConflictError):
            if text:
                store.create(f"runs/{run_id}/{name}", text.encode())
    summary = CuratedRun(
        layout=curated.layout,
        funnel=tuple(curated.funnel.steps),
        digest=curated.digest,
        notes=_notes(curated),
    )
    store.create(f"runs/{run_id}/{SUMMARY}", summary.model_dump_json(indent=1).encode())


def _lines(rows: Sequence[BadRow] | Sequence[Dropped]) -> str:
    return "".join(json.dumps(vars(row), ensure_ascii=False) + "\n" for row in rows)


def _notes(curated: Curated) -> list[str]:
    counts = f"{len(curated.train)} training rows, {len(curated.holdout)} held out, layout {curated.layout}"
    notes = [counts, f"rows: {curated.funnel.in_words()}"]
    if bad := len(curated.bad_rows):
        notes.append(f"{bad:,} bad row{'s' * (bad > 1)} set aside in data/bad_rows.jsonl")
    if dropped := len(curated.funnel.dropped):
        notes.append(f"{DROPPED} tells why {dropped:,} row{'s were' if dropped > 1 else ' was'} left out")
    return [*notes, curated.certificate.in_words(), *(f"warning: {text}" for text in curated.warnings)]


def data_run_of(store: Store, run_id: str) -> str:
    """The run in whose folder a run's data lies: of a trial its search, else itself."""
    trial = store.read_if_there(f"runs/{run_id}/{TRIAL}")
    return str(json.loads(trial)["search"]) if trial else run_id


def read_curated(store: Store, run_id: str) -> CuratedRun:
    """The summary of a run's data."""
    return CuratedRun.model_validate_json(store.read(f"runs/{run_id}/{SUMMARY}"))
