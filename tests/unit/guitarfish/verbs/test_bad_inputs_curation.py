"""Curation that cannot be done as asked: refused with the place and the way out, exit code 2, and no traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command_line import refused

RUN = """\
name: my-run
model:
  source: {kind: hub, id: some/model}
data:
  source: {kind: file, path: data.jsonl}
"""


def curation(text: str) -> str:
    """A run file whose curation is this; it starts in line 7."""
    return f"{RUN}  curation:\n    {text}\n"


REPLAY = "replay: {source: {kind: file, path: replay.jsonl}}"

BAD_RUN_FILES: dict[str, tuple[str, list[str]]] = {
    "misspelt key": (
        "duplicate: {kind: near}",
        ["Unknown key `data.curation.duplicate`.", "run.yaml:7:5", "Did you mean `data.curation.duplicates`?"],
    ),
    "unknown way with duplicates": (
        "duplicates: {kind: fuzzy}",
        ["data.curation.duplicates.kind", "'fuzzy'", "run.yaml:7:24", "Use one of keep, exact, near."],
    ),
    "threshold above one": (
        "duplicates: {kind: near, threshold: 80}",
        ["`data.curation.duplicates.threshold` is 80", "at most 1", "run.yaml:7:41"],
    ),
    "threshold of nothing": ("duplicates: {kind: near, threshold: 0.1}", ["is 0.1", "at least 0.3"]),
    "threshold for exact copies": (
        "duplicates: {kind: exact, threshold: 0.8}",
        ["Unknown key `data.curation.duplicates.threshold` for kind `exact`.", "Set `kind: near`"],
    ),
    "shingles of sentences": (
        "duplicates: {kind: near, unit: sentences}",
        ["data.curation.duplicates.unit", "one of words, characters"],
    ),
    "filters that are no list": (
        "filters: {kind: echo}",
        ["data.curation.filters", "a list of sections"],
    ),
    "filter without a kind": ("filters: [{min: 3}]", ["`data.curation.filters[0].kind` is missing", "length, repet"]),
    "unknown filter": (
        "filters: [{kind: echo}, {kind: lenght}]",
        ["data.curation.filters[1].kind", "'lenght'", "run.yaml:7:36", "Did you mean `length`?"],
    ),
    "length without limits": (
        "filters: [{kind: length}]",
        ["without `min` and `max`", "run.yaml:7:15, key data.curation.filters[0]", "Set one of them."],
    ),
    "length the wrong way round": (
        "filters: [{kind: echo}, {kind: length, min: 9, max: 3}]",
        ["`min` is 9 and `max` is 3", "run.yaml:7:49, key data.curation.filters[1].min", "Swap them."],
    ),
    "no regular expression": (
        "filters: [{kind: pattern, pattern: '(a'}]",
        ["'(a' is not a regular expression", "run.yaml:7:40, key data.curation.filters[0].pattern", "Correct the"],
    ),
    "key of another filter": (
        "filters: [{kind: echo, max_share: 0.3}]",
        ["Unknown key `data.curation.filters[0].max_share` for kind `echo`.", "Set `kind: repetition`"],
    ),
    "unknown script": ("filters: [{kind: script, scripts: [roman]}]", ["'roman'", "one of latin, cyrillic"]),
    "share of symbols": ("filters: [{kind: symbols, max_share: 30}]", ["max_share` is 30", "less than 1"]),
    "unknown balance": ("balance: {kind: even, column: topic}", ["'even'", "Use one of equal, cap, share."]),
    "balance of nothing": ("balance: {kind: equal}", ["`data.curation.balance.column` is missing"]),
    "cap without rows": ("balance: {kind: cap, column: a, max_rows: 0}", ["max_rows` is 0", "at least 1"]),
    "all replay": (f"{REPLAY[:-1]}, share: 1}}", ["`data.curation.replay.share` is 1", "less than 0.9"]),
    "replay from nowhere": ("replay: {share: 0.1}", ["`data.curation.replay.source` is missing"]),
    "replay in a layout that the method cannot use": (
        f"{REPLAY[:-1]}, layout: preference}}",
        ["`data.curation.replay.layout` is preference, but `method.kind` is sft", "run.yaml:7:64"],
    ),
}

BAD_DATA: dict[str, tuple[str, list[str]]] = {
    "balance by a column that is not there": (
        "balance: {kind: equal, column: subject}",
        ["no column 'subject'; it has prompt, completion, topic", "data.curation.balance.column"],
    ),
    "balance by a column that some rows lack": (
        "balance: {kind: equal, column: note}",
        ["data.jsonl:2 (row 2): note (data.curation.balance.column) is missing", "on_bad_row"],
    ),
    "a share that cannot be met": (
        "balance: {kind: share, column: topic, max_share: 0.2}",
        ["more than 20% of the rows, but the column has only 3", "data.curation.balance.max_share", "at least 0.33"],
    ),
    "filters that drop everything": (
        "filters: [{kind: length, min: 100}, {kind: echo}]",
        ["drop all 60 rows (length 60)", "fewer than 100", "data.curation.filters", "Loosen the filter"],
    ),
    "filters that leave one row": (
        "filters: [{kind: pattern, pattern: 'answer 7 ', drop: missing}]",
        ["1 good row cannot be split", "data.holdout", "Add rows"],
    ),
    "rows that are all alike": (
        "duplicates: {kind: near, threshold: 0.3, unit: characters, size: 1}",
        ["1 good row cannot be split", "data.holdout"],
    ),
    "no replay file": (
        "replay: {source: {kind: file, path: no.jsonl}}",
        ["File or folder 'no.jsonl' not found.", "Did you mean", "blank.jsonl"],
    ),
    "an empty replay file": (
        "replay: {source: {kind: file, path: empty.jsonl}}",
        ["empty.jsonl is empty", "Write the rows first"],
    ),
    "a replay file of blank lines": (
        "replay: {source: {kind: file, path: blank.jsonl}}",
        ["blank.jsonl has no rows", "data.curation.replay.source"],
    ),
    "a replay file in no layout": (
        "replay: {source: {kind: file, path: odd.jsonl}}",
        ["odd.jsonl", "Columns found: question", "data.curation.replay.layout"],
    ),
    "replay with a bad row": (
        "replay: {source: {kind: file, path: bad.jsonl}}",
        ["bad.jsonl:2 (row 2): completion is empty"],
    ),
    "replay of the task itself": (
        "replay: {source: {kind: file, path: data.jsonl}}",
        ["None of the 60 replay rows can be mixed in", "data.curation.replay.source", "other rows"],
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixty rows of three topics, and replay files that are not as they should be."""
    rows = [
        {"prompt": f"question {place}", "completion": f"answer {place} it is", "topic": "abc"[place % 3]}
        for place in range(60)
    ]
    rows[0]["note"] = "first"
    _write(tmp_path / "data.jsonl", rows)
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "blank.jsonl").write_text("\n\n \n")
    _write(tmp_path / "odd.jsonl", [{"question": "a", "reply": "b"}])
    _write(tmp_path / "bad.jsonl", [{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": ""}])
    return tmp_path


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def check_refused(capsys: pytest.CaptureFixture[str], folder: Path, text: str, fragments: list[str]) -> None:
    (folder / "run.yaml").write_text(curation(text))
    refused(capsys, ["check", str(folder / "run.yaml"), "--data-only"], fragments)


@pytest.mark.parametrize("case", BAD_RUN_FILES)
def test_bad_run_file_is_refused(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_refused(capsys, folder, *BAD_RUN_FILES[case])


@pytest.mark.parametrize("case", BAD_DATA)
def test_what_the_data_does_not_allow_is_refused(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_refused(capsys, folder, *BAD_DATA[case])


def test_training_data_that_is_the_hold_out_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.loads(line) for line in (folder / "data.jsonl").read_text().splitlines()]
    _write(folder / "held.jsonl", [row | {"completion": row["completion"].upper()} for row in rows])
    text = "duplicates: {kind: near}\n  holdout: {kind: source, source: {kind: file, path: held.jsonl}}"
    check_refused(capsys, folder, text, ["Every training row is like a row of the hold-out", "data.holdout.source"])
