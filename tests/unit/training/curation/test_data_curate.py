"""Curation: what becomes of rows, which are held out, what stops a run and what only warns."""

from __future__ import annotations

import json
import pickle
import random
from pathlib import Path
from typing import Any

import pytest

from runspec.curation import CurationSpec, KeepDuplicates
from runspec.data import DataSpec, FileData, SourceHoldout, SplitHoldout
from runspec.errors import DataError
from training.curation.curate import Curated, curate
from training.curation.holdout import split_holdout
from training.data.example import Example

Rows = list[dict[str, Any]]
KEEP = CurationSpec(duplicates=KeepDuplicates())
PINNED = [7, 10, 11, 13, 16, 22, 24]


def pairs(count: int, **more: Any) -> Rows:
    return [{"prompt": f"question {place}", "completion": f"answer {place}", **more} for place in range(count)]


def write(folder: Path, rows: Rows, name: str = "data.jsonl") -> FileData:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return FileData(path=name)


def curated(folder: Path, rows: Rows, seed: int = 0, **options: Any) -> Curated:
    return curate(DataSpec(source=write(folder, rows), **options), folder, seed)


def refused(folder: Path, rows: Rows, **options: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        curated(folder, rows, **options)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    return caught.value


def digests(examples: list[Example]) -> set[str]:
    return {example.digest for example in examples}


def test_every_row_has_one_fate(tmp_path: Path) -> None:
    rows = [*pairs(100), *pairs(10), *({"prompt": "x", "completion": ""} for _ in range(7))]
    found = curated(tmp_path, rows, on_bad_row="skip", max_rows=50)
    funnel = found.funnel
    assert funnel.rows("read") == 117
    assert sum(step.change for step in funnel.steps) == funnel.left == len(found.train) == 50
    assert (funnel.rows("bad"), funnel.rows("exact copy"), funnel.rows("held out")) == (7, 10, len(found.holdout))
    assert funnel.rows("over data.max_rows") == 100 - len(found.holdout) - 50
    assert len(found.bad_rows) == 7
    assert found.bad_rows[0].origin == "data.jsonl:111 (row 111)"
    assert found.bad_rows[0].problem.startswith("completion is empty; ")
    assert not digests(found.train) & digests(found.holdout)


def test_the_split_is_the_same_in_every_order_and_with_every_seed(tmp_path: Path) -> None:
    rows = pairs(300)
    first = curated(tmp_path, rows)
    random.Random(1).shuffle(rows)
    again = curated(tmp_path, rows, seed=9, system_prompt="Be brief.")
    assert 15 <= len(first.holdout) <= 45
    assert {example.reference for example in first.holdout} == {example.reference for example in again.holdout}
    assert first.digest == curated(tmp_path, rows).digest != again.digest


def test_a_held_out_row_stays_held_out_when_rows_are_added(tmp_path: Path) -> None:
    few, many = curated(tmp_path, pairs(100)), curated(tmp_path, pairs(400))
    assert digests(few.holdout) <= digests(many.holdout)
    assert digests(few.train) <= digests(many.train)


def test_the_split_is_pinned() -> None:
    """These rows were held out before: another answer would move rows of existing runs across the border."""
    texts = [Example(text=f"row {place}") for place in range(40)]
    assert [place for place, held in enumerate(split_holdout(texts, 0.1)) if held] == PINNED


def test_groups_stay_together_and_their_copies_leave_training(tmp_path: Path) -> None:
    rows = [row | {"topic": place % 20} for place, row in enumerate(pairs(200))]
    rows += [{"prompt": "same", "completion": "same", "topic": topic} for topic in range(20)]
    split = SplitHoldout(group_key="topic", fraction=0.3)
    found = curated(tmp_path, rows, holdout=split, curation=KEEP)
    trained, held = ({example.group for example in side} for side in (found.train, found.holdout))
    assert trained
    assert held
    assert not trained & held
    assert not digests(found.train) & digests(found.holdout)
    assert found.funnel.rows("same as a held-out row") == len(trained)
    assert any("a held-out row of another group is the same" in warning for warning in found.warnings)


def test_both_sides_have_a_row_whatever_the_fraction(tmp_path: Path) -> None:
    for fraction in (0.001, 0.89):
        found = curated(tmp_path, pairs(2), holdout=SplitHoldout(fraction=fraction))
        assert (len(found.train), len(found.holdout)) == (1, 1)


def test_what_cannot_be_split_is_refused(tmp_path: Path) -> None:
    assert "cannot be split" in refused(tmp_path, pairs(1) * 3).what
    one_group = refused(tmp_path, pairs(5, topic="a"), holdout=SplitHoldout(group_key="topic"))
    assert "one group, 'a'" in one_group.what
    column = refused(tmp_path, pairs(5, topic="a"), holdout=SplitHoldout(group_key="subject"))
    assert "no column 'subject'; it has prompt, completion, topic" in column.what
    rows = [*pairs(5, topic="a"), *pairs(1)]
    assert (
        "topic (data.holdout.group_key) is missing"
        in refused(tmp_path, rows, holdout=SplitHoldout(group_key="topic")).what
    )


def test_a_hold_out_of_its_own(tmp_path: Path) -> None:
    other = [{"prompt": "other", "completion": str(place)} for place in range(4)]
    source = SourceHoldout(source=write(tmp_path, other, "holdout.jsonl"))
    found = curated(tmp_path, pairs(6), holdout=source)
    steps = [(step.stage, step.change) for step in found.funnel.steps if step.change]
    assert steps == [("read", 6), ("hold-out: read", 4), ("held out", -4)]
    assert (len(found.train), len(found.holdout)) == (6, 4)
    write(tmp_path, [*other, *pairs(2)], "holdout.jsonl")
    error = refused(tmp_path, pairs(6), holdout=source)
    assert "2 of the 6 held-out rows are in the training data too" in error.what
    assert "holdout.jsonl:5 (row 5) is also data.jsonl:1 (row 1)" in error.what


def test_bad_rows_stop_the_run_and_the_first_five_are_told(tmp_path: Path) -> None:
    rows = [*pairs(30), *({"prompt": "x", "completion": None} for _ in range(9))]
    error = refused(tmp_path, rows)
    assert error.what.count("\n  - ") == 5
    assert "data.jsonl:31 (row 31): completion is null; write text there" in error.what
    assert error.where == "data.jsonl:31 (row 31)"
    assert "on_bad_row: skip" in error.fix


def test_a_bad_row_late_in_the_file_is_found(tmp_path: Path) -> None:
    error = refused(tmp_path, [*pairs(1000), {"prompt": "x"}])
    assert "1 bad row:" in error.what
    assert "data.jsonl:1001 (row 1001): completion is missing" in error.what


def test_mostly_bad_data_is_refused_even_when_bad_rows_are_skipped(tmp_path: Path) -> None:
    rows = [*pairs(4), *({"prompt": "x", "completion": ""} for _ in range(5))]
    error = refused(tmp_path, rows, on_bad_row="skip")
    assert "5 of 9 rows are bad, more than half" in error.what
    (tmp_path / "data.jsonl").write_text("not json\n" * 3)
    with pytest.raises(DataError, match="none of the first rows can be read"):
        curate(DataSpec(source=FileData(path="data.jsonl"), on_bad_row="skip"), tmp_path, 0)


def test_max_rows_is_chosen_by_the_seed_and_not_by_the_order(tmp_path: Path) -> None:
    rows = pairs(200)
    first, other = curated(tmp_path, rows, max_rows=20), curated(tmp_path, rows, seed=1, max_rows=20)
    shuffled = curated(tmp_path, rows[::-1], max_rows=20)
    assert len(first.train) == 20
    assert digests(first.train) == digests(shuffled.train) != digests(other.train)
    assert len(first.holdout) == len(other.holdout) == len(curated(tmp_path, rows).holdout)


def test_few_rows_and_copies_are_warned_of(tmp_path: Path) -> None:
    assert any("Only" in warning and "500" in warning for warning in curated(tmp_path, pairs(50)).warnings)
    assert curated(tmp_path, pairs(700)).warnings == []
    kept = curated(tmp_path, pairs(600) * 2, curation=KEEP)
    assert any("exact copies" in warning for warning in kept.warnings)
    assert len(kept.train) + len(kept.holdout) == 1200


def test_the_system_prompt_goes_before_conversations_that_have_none(tmp_path: Path) -> None:
    rows = [*pairs(3), *({**row, "system": "own"} for row in pairs(3))]
    found = curated(tmp_path, rows, system_prompt="Be brief.")
    systems = [example.messages[0]["content"] for example in [*found.train, *found.holdout]]
    assert sorted(systems) == ["Be brief."] * 3 + ["own"] * 3
    texts = curated(tmp_path, [{"text": f"{place}"} for place in range(9)], system_prompt="Be brief.")
    assert any("system_prompt is not used" in warning for warning in texts.warnings)
