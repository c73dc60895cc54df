"""Paths of run files: relative, absolute, home, inside packages, and missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from runspec.errors import SpecError
from runspec.paths import absolute_path, resolve_path


def test_relative_starts_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_text("")
    assert resolve_path("data/a.jsonl", tmp_path) == tmp_path / "data" / "a.jsonl"
    assert resolve_path("../" + tmp_path.name + "/data", tmp_path) == tmp_path / "data"


def test_absolute_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.jsonl").write_text("")
    assert resolve_path("~/a.jsonl", Path("/")) == tmp_path / "a.jsonl"
    assert resolve_path(str(tmp_path / "a.jsonl"), Path("/")) == tmp_path / "a.jsonl"


def test_file_in_a_package() -> None:
    assert resolve_path("package:runspec/paths.py", Path("/")).name == "paths.py"
    assert absolute_path("package:runspec/paths.py", Path("/x")) == "package:runspec/paths.py"


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("data.jsnl", ["no file or folder", "data.jsonl"]),
        ("no/such/file", ["does not exist"]),
        ("package:no_such_package/a", ["not installed"]),
        ("package:runspec/lod.py", ["has no 'lod.py'", "load.py"]),
        ("package:runspec/../guitarfish", ["leaves the package"]),
        ("package:not-a-name/x", ["names no package"]),
        ("a\0b", ["no path"]),
    ],
)
def test_missing(text: str, fragments: list[str], tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text("")
    with pytest.raises(SpecError) as caught:
        resolve_path(text, tmp_path)
    for fragment in fragments:
        assert fragment in str(caught.value)
