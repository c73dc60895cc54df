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
    ("text", "what", "fix"),
    [
        ("data.jsnl", "File or folder 'data.jsnl' not found.", "Did you mean `data.jsonl`?"),
        ("other", "File or folder 'other' not found.", "Put it there, or correct the path. In {}: data.jsonl."),
        ("no/file", "'no/file' not found.", "the folder {}/no does not exist. Paths start from {}."),
        ("package:no_such_package/a", "Package 'no_such_package' is not installed.", "has no_such_package."),
        ("package:runspec/lod.py", "'lod.py' not found in package runspec.", "Did you mean `load.py`"),
        ("package:runspec/../guitarfish", "leaves the package's folder.", "Name a file inside the package."),
        ("package:not-a-name/x", "does not name a package.", "Write it as package:NAME/path/inside."),
        ("a\0b", "'a\\x00b' is not a path: ", "Correct the path."),
    ],
)
def test_missing(text: str, what: str, fix: str, tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text("")
    with pytest.raises(SpecError) as caught:
        resolve_path(text, tmp_path)
    assert what in caught.value.what
    assert fix.replace("{}", str(tmp_path)) in caught.value.fix
    assert caught.value.where
