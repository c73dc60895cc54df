"""The store on a real S3 server: what it keeps, and what a user reads when it cannot be used."""

from __future__ import annotations

import os
import pickle
import random
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster.store.storage import Store, open_store
from registry.adapters import Registry
from runspec.errors import ConflictError, GuitarfishError, RegistryError, StoreError


@pytest.fixture
def store(fresh_s3_store_uri: str) -> Store:
    """An empty store."""
    return open_store(fresh_s3_store_uri)


def test_files_come_back_and_are_listed(store: Store) -> None:
    store.create("runs/a/spec.json", b"{}")
    store.create_json("runs/a/data/summary.json", {"rows": 3, "ä": "ß"})
    store.create("runs/b/spec.json", b"")
    assert store.read("runs/a/spec.json") == b"{}"
    assert store.read("runs/b/spec.json") == b""
    assert store.read_json("runs/a/data/summary.json") == {"rows": 3, "ä": "ß"}
    assert store.list() == ["runs"]
    assert store.list("runs") == ["a", "b"]
    assert store.list("runs/a") == ["data", "spec.json"]
    assert store.list("none") == []
    assert store.walk("runs/a") == ["runs/a/data/summary.json", "runs/a/spec.json"]
    assert store.walk("none") == []
    assert store.exists("runs/a/spec.json")
    assert not store.exists("runs/a")
    assert not store.exists("runs/a/none")
    assert store.read_if_there("runs/none") is None
    assert store.read_many(["runs/a/spec.json", "runs/b/spec.json"]) == {
        "runs/a/spec.json": b"{}",
        "runs/b/spec.json": b"",
    }


def test_a_neighbour_with_the_same_beginning_is_not_listed(store: Store) -> None:
    store.create("runs/a/spec.json", b"1")
    store.create("runs/ab/spec.json", b"2")
    assert store.walk("runs/a") == ["runs/a/spec.json"]
    assert store.list("runs/a") == ["spec.json"]


def test_more_files_than_one_page_of_a_listing(store: Store) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: store.create(f"many/{number}", b""), range(1100)))
    assert len(store.list("many")) == 1100
    assert len(store.walk("many")) == 1100


def test_nothing_is_overwritten(store: Store) -> None:
    store.create("a", b"first")
    with pytest.raises(ConflictError, match="`a` is already in the store"):
        store.create("a", b"second")
    assert store.read("a") == b"first"


def test_a_large_file_goes_up_in_parts_and_only_once(store: Store, tmp_path: Path) -> None:
    content = random.Random(0).randbytes(110 << 20)  # s3fs cuts what is larger than 100 MiB
    (tmp_path / "big").write_bytes(content)
    store.upload(tmp_path / "big", "folder/big")
    with pytest.raises(ConflictError):
        store.upload(tmp_path / "big", "folder/big")
    store.download_folder("folder", tmp_path / "back")
    assert (tmp_path / "back" / "big").read_bytes() == content
    assert os.listdir(tmp_path / "back") == ["big"]


def test_check_is_repeatable_and_sees_another_layout(store: Store) -> None:
    store.check()
    store.check()
    assert store.read_json("store.json") == {"layout": 1}
    newer = open_store(f"{store.uri}/newer")
    newer.create_json("store.json", {"layout": 2})
    with pytest.raises(StoreError, match="layout 2"):
        newer.check()


def test_a_store_survives_pickling(store: Store) -> None:
    store.create("a", b"1")
    again = pickle.loads(pickle.dumps(store))
    assert (again.uri, again.read("a")) == (store.uri, b"1")


def test_ray_train_gets_a_filesystem(store: Store) -> None:
    pyarrow_fs = pytest.importorskip("pyarrow.fs")
    filesystem, root = store.filesystem()
    wrapped = pyarrow_fs.PyFileSystem(pyarrow_fs.FSSpecHandler(filesystem))
    with wrapped.open_output_stream(f"{root}/runs/x/checkpoint") as stream:
        stream.write(b"weights")
    assert store.read("runs/x/checkpoint") == b"weights"


class LossyProxy:
    """Passes HTTP on to the server, and closes the connection instead of passing on the answer to the first PUT."""

    def __init__(self, endpoint: str) -> None:
        host, _, port = endpoint.removeprefix("http://").partition(":")
        self.server = (host, int(port))
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.lost = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        upstream = socket.create_connection(self.server)
        request = bytearray()

        def answers() -> None:
            while answer := upstream.recv(1 << 16):
                if request.startswith(b"PUT") and not self.lost and b" 200 " in answer[:20]:
                    self.lost += 1
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(answer)

        threading.Thread(target=answers, daemon=True).start()
        try:
            while data := client.recv(1 << 16):
                request += data
                upstream.sendall(data)
        except OSError:
            upstream.close()


def test_a_lost_answer_is_no_conflict(
    store: Store, s3_endpoint: str, new_s3_clients: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first PUT arrives, its answer does not; the client's retry is told that the name is taken: by itself."""
    proxy = LossyProxy(s3_endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    through = open_store(store.uri)
    through.create("claim", b"mine")
    assert proxy.lost == 1
    assert store.read("claim") == b"mine"
    with pytest.raises(ConflictError):
        through.create("claim", b"another's")
    proxy.listening.close()


def test_the_registry_is_listed_in_few_requests(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in range(5):
        for version in range(1, 6):
            store.create(f"adapters/a{name}/versions/{version}/card.json", b"{}")
        move = {"seq": 1, "version": 5, "at": "2026-01-01T00:00:00Z", "by": "x", "reason": ""}
        store.create_json(f"adapters/a{name}/aliases/prod/1.json", move)
    filesystem, _ = store.filesystem()
    calls: list[str] = []
    client = filesystem.s3
    client.meta.events.register("before-call.s3", lambda model, **_: calls.append(model.name))
    entries = Registry(store).entries()
    assert [entry.name for entry in entries] == ["a0", "a1", "a2", "a3", "a4"]
    assert {(entry.versions, entry.aliases["prod"]) for entry in entries} == {((1, 2, 3, 4, 5), 5)}
    assert calls == ["ListObjectsV2"] + ["GetObject"] * 5
    calls.clear()
    assert Registry(store).resolve("a3@prod").version == 5
    assert calls == ["ListObjectsV2", "GetObject"]


@pytest.mark.parametrize(
    ("uri", "environment", "what", "fix"),
    [
        ("s3://no-such-bucket/x", {}, "Bucket `no-such-bucket` not found", "s3 mb s3://no-such-bucket"),
        ("s3://guitarfish-tests/x", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "secret key|denied", "AWS_SECRET_ACCESS_KEY"),
        ("s3://guitarfish-tests/x", {"AWS_ACCESS_KEY_ID": "nobody"}, "access key|denied", "AWS_ACCESS_KEY_ID"),
        ("s3://guitarfish-tests/x", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "does not answer", "AWS_ENDPOINT_URL"),
        ("s3://guitarfish-tests/x", {"AWS_ENDPOINT_URL": "not a url"}, "is not an endpoint", "http"),
        ("s3://x/y", {}, "Bucket|bucket", "letters|s3 mb"),
        ("s3://guitarfish-tests/x", {"AWS_PROFILE": "none-such"}, "profile", "~/.aws/config"),
    ],
)
@pytest.mark.parametrize("operation", ["check", "read", "list", "walk", "exists", "registry"])
def test_what_is_wrong_is_said(
    new_s3_clients: None,
    monkeypatch: pytest.MonkeyPatch,
    uri: str,
    environment: dict[str, str],
    what: str,
    fix: str,
    operation: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if "AWS_PROFILE" in environment:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    began = time.monotonic()
    with pytest.raises((StoreError, RegistryError)) as raised:
        _use(open_store(uri), operation)
    _assert_says(raised.value, what, fix)
    assert time.monotonic() - began < 20


def _use(store: Store, operation: str) -> object:
    match operation:
        case "check":
            return store.check()
        case "registry":
            return Registry(store).names()
        case "list" | "walk":
            return getattr(store, operation)("runs")
        case other:
            return getattr(store, other)("runs/a/spec.json")


def _assert_says(error: GuitarfishError, what: str, fix: str) -> None:
    assert re.search(what, error.what), error
    assert re.search(fix, error.fix), error
    assert error.where
    assert "Traceback" not in str(error)
