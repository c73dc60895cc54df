"""Reading sources: every kind of file, and what is wrong with one is said with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runspec.data import FileData, FolderData, HubData
from runspec.errors import DataError, SpecError
from training.data.read import Row, read_rows

ROWS = [{"prompt": "a", "completion": "b"}, {"prompt": "ü", "completion": "d, e"}]


def rows_of(folder: Path, name: str) -> list[Row]:
    return list(read_rows(FileData(path=name), folder))


def write(folder: Path, name: str, data: str | bytes) -> str:
    (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return name


def write_parquet(path: Path, columns: dict[str, object]) -> None:
    pq.write_table(pa.table(columns), path)


def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path) -> None:
    lines = "\n\n".join(json.dumps(row) for row in ROWS)
    names = [
        write(tmp_path, "a.jsonl", lines),
        write(tmp_path, "b.ndjson", b"\xef\xbb\xbf" + lines.encode() + b"\r\n"),
        write(tmp_path, "c.json", json.dumps(ROWS)),
        write(tmp_path, "d.json", json.dumps({"version": 1, "data": ROWS})),
        write(tmp_path, "e.csv", '\ufeffprompt,completion\na,b\n\nü,"d, e"\n'),
        write(tmp_path, "f.tsv", "prompt\tcompletion\na\tb\nü\td, e\n"),
    ]
    write_parquet(tmp_path / "g.parquet", {"prompt": ["a", "ü"], "completion": ["b", "d, e"]})
    for name in [*names, "g.parquet"]:
        assert [row.values for row in rows_of(tmp_path, name)] == ROWS, name
    assert len(list(read_rows(FolderData(path="."), tmp_path))) == 14
    some = list(read_rows(FolderData(path=".", pattern="[ab]*"), tmp_path))
    assert [row.origin for row in some] == [
        "a.jsonl:1 (row 1)", "a.jsonl:3 (row 2)", "b.ndjson:1 (row 1)", "b.ndjson:3 (row 2)"
    ]  # fmt: skip


def test_a_row_that_cannot_be_read_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    lines = [b'{"text": "good"}', b'{"text": "b\xff"}', b'{"text": ', b"[1]", b"[" * 100_000, b'{"text": "good"}']
    write(tmp_path, "a.jsonl", b"\n".join(lines))
    rows = rows_of(tmp_path, "a.jsonl")
    assert [bool(row.problem) for row in rows] == [False, True, True, True, True, False]
    assert rows[1].origin == "a.jsonl:2 (row 2)"
    assert "byte 0xff is not UTF-8" in rows[1].problem
    assert "not JSON" in rows[2].problem
    assert "an array" in rows[3].problem


def test_ragged_and_undecodable_csv_rows_are_named(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", b'prompt,completion\n"two\nlines",x\na,b,c\nonly\n\xff,b\n')
    rows = rows_of(tmp_path, "a.csv")
    assert [row.origin for row in rows] == [
        f"a.csv:{line} (row {row})" for line, row in ((2, 1), (4, 2), (5, 3), (6, 4))
    ]
    assert rows[0].values["prompt"] == "two\nlines"
    assert "3 cells where the header has 2" in rows[1].problem
    assert "1 cells" in rows[2].problem
    assert rows[3].problem.startswith("prompt: a byte that is not UTF-8")


def test_parquet_pads_objects_with_nulls_and_those_are_taken_out(tmp_path: Path) -> None:
    messages = [[{"role": "user", "content": "a"}], [{"role": "tool", "content": "b", "tool_call_id": "1"}]]
    write_parquet(tmp_path / "a.parquet", {"messages": messages})
    assert [row.values["messages"] for row in rows_of(tmp_path, "a.parquet")] == messages


def test_parquet_text_that_is_not_utf8_spoils_its_row_only(tmp_path: Path) -> None:
    buffers = pa.array([b"good", b"\xff", b"fine"], pa.binary()).buffers()
    text = pa.Array.from_buffers(pa.string(), 3, buffers)
    pq.write_table(pa.table({"text": text}), tmp_path / "a.parquet")
    rows = rows_of(tmp_path, "a.parquet")
    assert [row.values.get("text") for row in rows] == ["good", None, "fine"]
    assert "not UTF-8" in rows[1].problem


BAD_FILES: dict[str, tuple[str, str | bytes, list[str]]] = {
    "empty": ("a.jsonl", "", ["a.jsonl is empty"]),
    "only a byte order mark": ("a.csv", b"\xef\xbb\xbf", ["is empty"]),
    "blank lines": ("a.jsonl", "\n\n", ["has no rows"]),
    "empty array": ("a.json", "[]", ["has no rows"]),
    "header alone": ("a.csv", "prompt,completion\n", ["has no rows"]),
    "UTF-16": ("a.csv", "prompt,completion\n".encode("utf-16"), ["UTF-16", "Save it as UTF-8"]),
    "gzip": ("a.jsonl", b"\x1f\x8b\x08\x00", ["gzip", "Decompress"]),
    "unknown suffix": ("a.xlsx", "x", ["'.xlsx'", ".csv"]),
    "JSON cut off": ("a.json", '[{"text": "a"},\n {"te', ["not JSON", "line 2", "a.json:2"]),
    "JSON lines called .json": ("a.json", '{"text": "a"}\n{"text": "b"}\n', ["Rename it to .jsonl"]),
    "JSON not UTF-8": ("a.json", b'["\n\xff"]', ["0xff in line 2"]),
    "JSON a number": ("a.json", "3", ["a number (3)", "array of objects"]),
    "JSON without array": ("a.json", '{"a": 1}', ["no array"]),
    "JSON with two arrays": ("a.json", '{"a": [], "b": []}', ["2 arrays (a, b)"]),
    "header twice": ("a.csv", "text,label,text\nx,y,z\n", ["two columns called 'text'", "a.csv:1"]),
    "header without name": ("a.csv", "text,\nx,y\n", ["A column of a.csv has no name"]),
    "semicolons": ("a.csv", "prompt;completion\na;b\n", ["separator seems to be ';'"]),
    "open quote": ("a.csv", 'prompt,completion\n"a,b\n', ["not CSV", "unexpected end of data"]),
    "text after quote": ("a.csv", 'prompt,completion\n"a"x,b\n', ["not CSV", "line 2"]),
    "not Parquet": ("a.parquet", "PAR1 not really", ["cannot be read as Parquet"]),
    "empty Parquet": ("a.parquet", "", ["cannot be read as Parquet"]),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_no_data_is_refused_with_the_fix(name: str, tmp_path: Path) -> None:
    file, data, expected = BAD_FILES[name]
    write(tmp_path, file, data)
    with pytest.raises(DataError) as caught:
        rows_of(tmp_path, file)
    for text in expected:
        assert text in str(caught.value)
    assert caught.value.where
    assert caught.value.fix


def test_places_that_are_not_what_was_said(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    write(tmp_path, "a.txt", "x")
    with pytest.raises(SpecError, match=r"missing.jsonl. not found"):
        rows_of(tmp_path, "missing.jsonl")
    with pytest.raises(DataError, match="is a folder"):
        rows_of(tmp_path, "folder")
    for source, text in [
        (FolderData(path="a.txt"), "is a file, not a folder"),
        (FolderData(path="folder"), "No data file in folder matches"),
        (FolderData(path=".", pattern="*.jsonl"), "the folder holds a.txt, folder"),
        (FolderData(path=".", pattern="/abs/*"), "is not a valid pattern"),
    ]:
        with pytest.raises(DataError, match=text):
            list(read_rows(source, tmp_path))


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` keeps what it prepared in a folder of this test, and does not try the network for long."""
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("hub_cache")
def test_a_folder_laid_out_like_a_hub_dataset(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    write(tmp_path, "set/train.jsonl", "\n".join(json.dumps(row) for row in ROWS))
    rows = list(read_rows(HubData(id="./set"), tmp_path))
    assert [row.values for row in rows] == ROWS
    assert rows[1].origin == "./set [train] row 2"
    assert len(list(read_rows(HubData(id="./set", split="train[:1]"), tmp_path))) == 1


@pytest.mark.usefixtures("hub_cache")
@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (HubData(id="./set", split="tran"), ["data.source.split", "['train']"]),
        (HubData(id="./set", split="train[:x]"), ["data.source.split"]),
        (HubData(id="./set", subset="german"), ["data.source.subset", "german"]),
        (HubData(id="./bare"), ["./bare", "data files"]),
        (HubData(id="nobody/nothing-here"), ["cannot be reached", "kind: file"]),
        (HubData(id="not an id!"), ["data.source.id", "owner/name"]),
    ],
)
def test_what_the_hub_refuses_names_the_key(source: HubData, expected: list[str], tmp_path: Path) -> None:
    for folder in ("set", "bare"):
        (tmp_path / folder).mkdir()
    write(tmp_path, "set/train.jsonl", json.dumps(ROWS[0]))
    with pytest.raises(DataError) as caught:
        list(read_rows(source, tmp_path))
    for text in expected:
        assert text in str(caught.value)
