"""The store in a local folder: exclusive, whole, and plain about what is wrong."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import tempfile
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import BaseModel

from cluster.store.local_files import local_fault
from cluster.store.records import Record
from cluster.store.remote_files import RemoteFiles
from cluster.store.storage import Store, open_store
from runspec.errors import ConflictError, StoreError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return open_store(str(tmp_path / "store"))


def test_files_come_back_and_are_listed(store: Store) -> None:
    store.create("runs/a/spec.json", b"{}")
    store.create_json("runs/a/data/summary.json", {"rows": 3})
    store.create("runs/ab/spec.json", b"")
    assert store.read("runs/a/spec.json") == b"{}"
    assert store.read_json("runs/a/data/summary.json") == {"rows": 3}
    assert store.list() == ["runs"]
    assert store.list("runs/") == ["a", "ab"]
    assert store.list("runs/none") == []
    assert store.walk("runs/a") == ["runs/a/data/summary.json", "runs/a/spec.json"]
    assert store.walk() == ["runs/a/data/summary.json", "runs/a/spec.json", "runs/ab/spec.json"]
    assert store.walk("none") == []
    assert store.exists("runs/a/spec.json")
    assert not store.exists("runs/a")
    assert store.read_if_there("runs/none") is None
    assert store.read_many(["runs/ab/spec.json"]) == {"runs/ab/spec.json": b""}


def test_an_unused_store_is_empty_and_leaves_no_folder(store: Store, tmp_path: Path) -> None:
    assert (store.list(), store.walk(), store.exists("a")) == ([], [], False)
    assert not (tmp_path / "store").exists()


def test_nothing_is_overwritten(store: Store, tmp_path: Path) -> None:
    store.create("a", b"first")
    (tmp_path / "file").write_bytes(b"second")
    with pytest.raises(ConflictError, match="`a` is already in the store"):
        store.create("a", b"second")
    with pytest.raises(ConflictError):
        store.upload(tmp_path / "file", "a")
    assert store.read("a") == b"first"
    assert os.listdir(tmp_path / "store") == ["a"]


def test_one_of_many_writers_wins_and_nobody_reads_half(store: Store) -> None:
    seen: set[bytes] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(store.read_if_there("race") or b"")

    def write(number: int) -> bool:
        try:
            store.create("race", b"%d" % number * 300_000)
        except ConflictError:
            return False
        return True

    reader = threading.Thread(target=read)
    reader.start()
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(8)))
    done.set()
    reader.join()
    assert won.count(True) == 1
    assert seen <= {b"", b"%d" % won.index(True) * 300_000}


def test_files_are_as_readable_as_the_umask_says(store: Store, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        store.create("a", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "store" / "a").stat().st_mode & 0o777 == 0o640


def test_what_a_killed_writer_left_is_not_listed(store: Store, tmp_path: Path) -> None:
    store.create("folder/a", b"")
    (tmp_path / "store" / "folder" / ".incoming-0123").write_bytes(b"half")
    assert store.list("folder") == ["a"]
    assert store.walk() == ["folder/a"]


def test_downloads(store: Store, tmp_path: Path) -> None:
    store.create("adapter/config.json", b"1")
    store.create("adapter/deep/weights", b"2")
    store.download_folder("adapter", tmp_path / "local")
    assert (tmp_path / "local" / "deep" / "weights").read_bytes() == b"2"
    store.download("adapter/config.json", tmp_path / "new" / "config.json")
    assert os.listdir(tmp_path / "new") == ["config.json"]
    with pytest.raises(StoreError, match="Folder `none` not found"):
        store.download_folder("none", tmp_path / "local")
    with pytest.raises(StoreError, match="`none` not found"):
        store.download("none", tmp_path / "local" / "none")
    assert sorted(os.listdir(tmp_path / "local")) == ["config.json", "deep"]


def test_uri_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = str(tmp_path / "store")
    for uri in ("./store", "store/", "~/store", f"file://{tmp_path}/store", f"{tmp_path}/x/../store"):
        assert open_store(uri).uri == expected
    assert open_store("s3://bucket/prefix/").uri == "s3://bucket/prefix"
    assert pickle.loads(pickle.dumps(open_store("./store"))).uri == expected


@pytest.mark.parametrize(
    ("uri", "what", "fix"),
    [
        ("", "is empty", "s3://"),
        ("s3://", "names no bucket", "s3://bucket/prefix"),
        ("s3:/bucket/x", "not a store's URI", "s3://bucket/prefix"),
        ("s3://bucket/a/../b", "not a path", "relative path"),
        ("s4://bucket", "`s4://` cannot hold a store", r"Did you mean `s3://`\?"),
        ("https://host/x", "`https://` cannot hold", "s3://bucket/prefix"),
        ("memory://x", "`memory://` cannot hold", "folder"),
        ("simplecache::s3://bucket", "cannot hold|not a store", "s3://bucket/prefix"),
    ],
)
def test_bad_uris(uri: str, what: str, fix: str) -> None:
    with pytest.raises(StoreError, match=what) as raised:
        open_store(uri)
    assert raised.match(f"(?s){what}.*fix:.*({fix})")


def test_a_missing_protocol_package_is_named() -> None:
    try:
        import gcsfs  # noqa: F401
    except ImportError:
        with pytest.raises(StoreError, match="needs the package gcsfs") as raised:
            open_store("gs://bucket/x")
        assert raised.value.fix == "pip install gcsfs"


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file; a store is a folder"):
        open_store(str(tmp_path / "file"))
    store = open_store(str(tmp_path / "store"))
    store.create("runs", b"")
    with pytest.raises(StoreError, match="runs` is a file where the store needs a folder"):
        store.create("runs/a/spec.json", b"")
    store.create("folder/a", b"")
    with pytest.raises(StoreError, match="store/folder` is in the way"):
        store.create("folder", b"")
    with pytest.raises(StoreError, match="store/folder` is in the way"):
        store.read("folder")


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a//b", "a/./b", "a/../../b", "a\0b", ".incoming-x"])
def test_paths_stay_inside(store: Store, path: str) -> None:
    for act in (store.read, store.exists, lambda bad: store.create(bad, b"")):
        with pytest.raises(StoreError, match="not a path inside a store"):
            act(path)


def test_damaged_json_is_named(store: Store) -> None:
    store.create("a.json", b'{"rows": ')
    store.create("b.json", b"[]")
    for path in ("a.json", "b.json"):
        with pytest.raises(StoreError, match=f"(?s){path}.*where: .*/{path}"):
            store.read_json(path)


def test_check(store: Store, tmp_path: Path) -> None:
    store.check()
    store.check()
    assert os.listdir(tmp_path / "store") == ["store.json"]
    (tmp_path / "store" / "store.json").write_text('{"layout": 2}')
    with pytest.raises(StoreError, match="layout 2; this version knows 1"):
        store.check()


def test_a_folder_that_may_not_be_written() -> None:
    """In a process without root's privileges, for which permissions do not hold; in a folder that it can enter."""
    folder = Path(tempfile.mkdtemp(prefix="guitarfish-test-"))
    script = f"""
        import os
        from cluster.store.storage import open_store
        from runspec.errors import StoreError
        store = open_store({str(folder)!r})
        if os.getuid() == 0:
            os.setuid(65534)
        try:
            store.check()
        except StoreError as error:
            print(error)
    """
    folder.chmod(0o555)
    command = [sys.executable, "-c", textwrap.dedent(script)]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[4]).stdout
    finally:
        folder.rmdir()
    assert "This user cannot read or write" in said
    assert "fix:   Change its permissions" in said


def test_full_and_read_only_disks() -> None:
    full = local_fault(OSError(errno.ENOSPC, "No space left on device", "/s/a"), Path("/s/a"))
    assert (full.what, full.where) == ("The disk is full.", "/s/a")
    assert "Free some space" in full.fix
    read_only = local_fault(OSError(errno.EROFS, "Read-only file system"), Path("/s/a"))
    assert (read_only.what, read_only.where) == ("The filesystem is read-only.", "/s/a")
    received = RemoteFiles("s3", "b").fault(OSError(errno.ENOSPC, "No space left", "/tmp/x"), "a")
    assert isinstance(received, StoreError)
    assert (received.what, received.where) == ("The disk is full.", "/tmp/x")


def test_our_own_bugs_are_not_hidden() -> None:
    assert RemoteFiles("s3", "b").fault(TypeError("a bug"), "a") is None


class Values(BaseModel):
    name: str
    number: int


def test_records(store: Store) -> None:
    with pytest.raises(StoreError, match=r"The record runs/one\.json is missing"):
        Record(store, "runs/one.json", Values).read()
    made = Record(store, "runs/one.json", Values).write_once(lambda: Values(name="first", number=1))
    assert Record(store, "runs/one.json", Values).read() == made
    assert Record(store, "runs/one.json", Values).write_once(lambda: pytest.fail("is there already")) == made


def test_a_record_that_loses_the_race_is_the_winners(store: Store) -> None:
    winner = Values(name="winner", number=1)

    def make() -> Values:
        store.create("one.json", winner.model_dump_json().encode())
        return Values(name="loser", number=2)

    assert Record(store, "one.json", Values).write_once(make) == winner


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b'{"name": ', "Invalid JSON"), (b'{"name": "x", "number": "y"}', "number: Input should be")],
)
def test_damaged_records_are_named(store: Store, content: bytes, problem: str) -> None:
    store.create("runs/one.json", content)
    record = Record(store, "runs/one.json", Values)
    for read in (record.read, lambda: record.write_once(lambda: Values(name="new", number=1))):
        with pytest.raises(StoreError) as raised:
            read()
        assert "The record runs/one.json is damaged" in raised.value.what
        assert problem in raised.value.what
        assert raised.value.where == f"{store.uri}/runs/one.json"
        assert "Restore the file" in raised.value.fix
