"""Which source an error is about: the training data, the hold-out or replay, by its key and not by a rewritten text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runspec.curation import CurationSpec, Replay
from runspec.data import DataSpec, FileData, FolderData, SourceHoldout
from runspec.errors import DataError
from training.curation.curate import curate


def write(folder: Path, name: str, count: int = 40) -> FileData:
    rows = [{"prompt": f"{name} {n}", "completion": f"answer {n}", "text": f"text {n} of many"} for n in range(count)]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return FileData(path=name)


def test_a_replay_file_keeps_its_name_in_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.source.jsonl").write_text("")
    replay = Replay(source=FileData(path="data.source.jsonl"))
    spec = DataSpec(source=write(tmp_path, "rows.jsonl"), layout="text", curation=CurationSpec(replay=replay))
    with pytest.raises(DataError) as caught:
        curate(spec, tmp_path, 0)
    assert caught.value.where == str(tmp_path / "data.source.jsonl")


def test_one_file_in_two_layouts(tmp_path: Path) -> None:
    source = write(tmp_path, "rows.jsonl")
    replay = Replay(source=source, layout="text", share=0.2)
    spec = DataSpec(source=source, layout="prompt_completion", curation=CurationSpec(replay=replay))
    mixed = [example for example in curate(spec, tmp_path, 0).train if example.replay]
    assert mixed
    assert all(example.text for example in mixed)


@pytest.mark.parametrize("key", ["data.source", "data.holdout.source", "data.curation.replay.source"])
def test_the_key_of_the_source_is_named(key: str, tmp_path: Path) -> None:
    good = write(tmp_path, "rows.jsonl")
    bad = FolderData(path=".", pattern="/abs/*")
    spec = DataSpec(
        source=bad if key == "data.source" else good,
        layout="prompt_completion",
        holdout=SourceHoldout(source=bad if key == "data.holdout.source" else write(tmp_path, "held.jsonl")),
        curation=CurationSpec(replay=Replay(source=bad, layout="text")),
    )
    with pytest.raises(DataError) as caught:
        curate(spec, tmp_path, 0)
    assert caught.value.where == f"{key}.pattern"
