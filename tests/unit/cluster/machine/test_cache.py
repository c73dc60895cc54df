"""Digests of files: remembered by path, size and modification time, and never trusted beyond that."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cluster.machine.cache import file_sha256

HOUR = 3600 * 10**9


@pytest.fixture
def hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were hashed."""
    monkeypatch.setenv("GUITARFISH_CACHE", str(tmp_path / "cache"))
    names: list[str] = []
    real = hashlib.file_digest

    def counting(stream: Any, name: str) -> Any:
        names.append(Path(stream.name).name)
        return real(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", counting)
    return names


def weights(folder: Path, content: bytes = b"one", *, hours_ago: int = 2) -> Path:
    file = folder / "model.safetensors"
    file.write_bytes(content)
    changed = file.stat().st_mtime_ns - hours_ago * HOUR
    os.utime(file, ns=(changed, changed))
    return file


def test_an_unchanged_file_is_hashed_once(tmp_path: Path, hashed: list[str]) -> None:
    first = file_sha256(weights(tmp_path))
    assert first == hashlib.sha256(b"one").hexdigest()
    assert file_sha256(tmp_path / "model.safetensors") == first
    assert len(hashed) == 1


@pytest.mark.parametrize(("content", "hours_ago"), [(b"three", 2), (b"two", 1)], ids=["size", "time"])
def test_a_changed_file_is_hashed_again(tmp_path: Path, hashed: list[str], content: bytes, hours_ago: int) -> None:
    file_sha256(weights(tmp_path))
    assert file_sha256(weights(tmp_path, content, hours_ago=hours_ago)) == hashlib.sha256(content).hexdigest()
    assert len(hashed) == 2


def test_a_file_that_was_just_written_is_not_remembered(tmp_path: Path, hashed: list[str]) -> None:
    """A second write within one tick of the file system's clock would leave no trace."""
    file = weights(tmp_path, hours_ago=0)
    file_sha256(file)
    file_sha256(file)
    assert len(hashed) == 2


@pytest.mark.parametrize("damage", ["", "{", '{"size": 3}', "[]"])
def test_a_damaged_memory_is_ignored(tmp_path: Path, hashed: list[str], damage: str) -> None:
    file = weights(tmp_path)
    first = file_sha256(file)
    (memory,) = (tmp_path / "cache" / "digests").iterdir()
    memory.write_text(damage)
    assert [file_sha256(file), file_sha256(file)] == [first, first]
    assert len(hashed) == 2


def test_writers_at_the_same_time_leave_one_whole_memory(tmp_path: Path, hashed: list[str]) -> None:
    file = weights(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(file_sha256, [file] * 40))) == 1
    assert len(list((tmp_path / "cache" / "digests").iterdir())) == 1
    hashed.clear()
    file_sha256(file)
    assert hashed == []
