"""The curated data of a run in its store: the rows of both sides, and a summary of what became of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress

from runspec.errors import ConflictError
from training.curation.curate import BadRow, Curated
from training.curation.funnel import Dropped
from training.data.rows import write_examples
from training.run.results import CuratedRun
from training.run.run_folder import TrainingFolder


def store_curated(folder: TrainingFolder, curated: Curated) -> None:
    """Write both sides, the rows that were left out with the reason, the leak certificate, and last the summary."""
    store, run_id = folder.store, folder.run_id
    summary = CuratedRun(
        layout=curated.layout,
        funnel=tuple(curated.funnel.steps),
        digest=curated.digest,
        notes=_notes(curated),
    )
    aside: dict[str, Sequence[BadRow | Dropped]] = {
        folder.bad_rows_path: curated.bad_rows,
        folder.dropped_path: curated.funnel.dropped,
    }
    # All but the summary are there already where a driver was killed before it wrote that: same spec, same rows.
    with suppress(ConflictError):
        write_examples(store, run_id, "train", curated.train)
    with suppress(ConflictError):
        write_examples(store, run_id, "holdout", curated.holdout)
    for path, rows in aside.items():
        if rows:
            with suppress(ConflictError):
                store.create(path, _lines(rows))
    with suppress(ConflictError):
        folder.leaks.write(curated.certificate)
    folder.data.write(summary)


def _lines(rows: Sequence[BadRow | Dropped]) -> bytes:
    return "".join(json.dumps(vars(row), ensure_ascii=False) + "\n" for row in rows).encode()


def _notes(curated: Curated) -> list[str]:
    counts = f"{len(curated.train)} training rows, {len(curated.holdout)} held out, layout {curated.layout}"
    notes = [counts, f"rows: {curated.funnel.in_words()}"]
    if bad := len(curated.bad_rows):
        notes.append(f"{bad:,} bad row{'s' * (bad > 1)} set aside in data/bad_rows.jsonl")
    if dropped := len(curated.funnel.dropped):
        notes.append(f"data/dropped.jsonl says why {dropped:,} row{'s were' if dropped > 1 else ' was'} left out")
    return [*notes, curated.certificate.in_words(), *(f"warning: {text}" for text in curated.warnings)]
