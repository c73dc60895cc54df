"""What a run keeps of its curation: rows left out with reasons, funnel, leak certificate, and lines to print."""

from __future__ import annotations

import json
from pathlib import Path

from cluster.store.storage import open_store
from runspec.data import DataSpec
from training.curation.certificate import LeakCertificate
from training.curation.curate import Curated, curate
from training.curation.curated import store_curated
from training.data.rows import read_examples
from training.run.run_folder import TrainingFolder


def curated(folder: Path) -> Curated:
    rows = [{"prompt": f"question {place % 40}", "completion": f"answer {place % 40} it is"} for place in range(80)]
    rows += [{"prompt": "poor", "completion": "no"}, {"prompt": "bad", "completion": ""}]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {
        "source": {"kind": "file", "path": "data.jsonl"},
        "on_bad_row": "skip",
        "curation": {"filters": [{"kind": "length", "min": 2}]},
    }
    return curate(DataSpec.model_validate(values), folder, 0)


def test_a_run_keeps_why_rows_were_left_out_and_what_the_sides_share(tmp_path: Path) -> None:
    found = curated(tmp_path)
    store = open_store(str(tmp_path / "store"))
    store_curated(TrainingFolder(store, "run"), found)
    summary = TrainingFolder(store, "run").data.read()
    assert sum(step.change for step in summary.funnel) == len(found.train) == len(read_examples(store, "run", "train"))
    dropped = [json.loads(line) for line in store.read("runs/run/data/dropped.jsonl").decode().splitlines()]
    assert len(dropped) == 41
    assert dropped[0] == {
        "origin": "data.jsonl:81 (row 81)",
        "stage": "filter length",
        "reason": "the answer has 1 word, fewer than 2: 'no'",
    }
    assert dropped[1]["reason"] == "same content as data.jsonl:1 (row 1), which stays"
    certificate = LeakCertificate.model_validate_json(store.read("runs/run/data/leaks.json"))
    assert certificate == found.certificate
    assert certificate.train_rows == len(found.train)


def test_the_notes_tell_funnel_and_certificate(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    store_curated(TrainingFolder(store, "run"), curated(tmp_path))
    notes = TrainingFolder(store, "run").data.read().notes
    assert "rows: 82 read, -1 bad, -1 filter length, -40 exact copy, -" in notes[1]
    assert "1 bad row set aside in data/bad_rows.jsonl" in notes
    assert "data/dropped.jsonl says why 41 rows were left out" in notes
    assert any(note.startswith("leak certificate: 0 of ") for note in notes)


def test_a_driver_that_was_killed_halfway_can_store_again(tmp_path: Path) -> None:
    found = curated(tmp_path)
    store = open_store(str(tmp_path / "store"))
    store_curated(TrainingFolder(store, "run"), found)
    (tmp_path / "store" / "runs" / "run" / "data" / "summary.json").unlink()
    store_curated(TrainingFolder(store, "run"), found)
    assert TrainingFolder(store, "run").data.read().digest == found.digest
