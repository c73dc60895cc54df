"""The store: where runs and adapters are kept. Files are created once, and never replaced or deleted."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from uuid import uuid4

from cluster.local_files import LocalFiles
from cluster.paths import TEMPORARY, clean, clean_folder
from cluster.store_faults import local_fault, says_missing
from runspec.errors import ConflictError, StoreError
from runspec.store_uri import carries_credentials

MARKER = "store.json"
"""Proof that a store can be written, and which layout it has."""
LAYOUT = 1
SCHEMES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")
"""Object stores whose fsspec filesystem has an exclusive create; `Store.check` proves it on the one at hand."""
_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):(?P<slashes>/*)(?P<rest>.*)", re.DOTALL)
_TRANSFERS = 8
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
Names = list[str]


class Store:
    """Files under one URI. Paths are relative to it, with forward slashes.

    Every method raises StoreError, with a fix, when the store cannot be reached, read or written.
    """

    def __init__(self, uri: str) -> None:
        self._files, self.uri = _open(uri)

    def __repr__(self) -> str:
        return f"Store({self.uri!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return open_store, (self.uri,)

    def create(self, path: str, data: bytes) -> None:
        """Write a new file, which readers see whole or not at all.

        Raises:
            ConflictError: there is a file of this name.
        """
        path = clean(path)
        with self._faults(path):
            self._files.create(path, data)

    def create_json(self, path: str, value: Mapping[str, Any]) -> None:
        """Write a new JSON file. Raises ConflictError."""
        self.create(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())

    def upload(self, local_file: Path, path: str) -> None:
        """Write a new file with the content of a local one. Raises ConflictError."""
        path = clean(path)
        try:
            local_file.open("rb").close()
        except OSError as error:
            raise StoreError(f"{local_file} cannot be read: {error.strerror}", where=str(local_file)) from error
        with self._faults(path):
            self._files.upload(local_file, path)

    def read(self, path: str) -> bytes:
        """The content of a file; StoreError if there is none."""
        path = clean(path)
        with self._faults(path):
            return self._files.read(path)

    def read_if_there(self, path: str) -> bytes | None:
        """The content of a file, None if there is none: one request instead of `exists` and `read`."""
        path = clean(path)
        with self._faults(path):
            try:
                return self._files.read(path)
            except FileNotFoundError as error:
                if says_missing(error):
                    return None
                raise

    def read_many(self, paths: Sequence[str]) -> dict[str, bytes]:
        """The contents of several files by path, read at the same time where the store is remote."""
        cleaned = [clean(path) for path in paths]
        with self._faults(cleaned[0] if cleaned else ""):
            return self._files.read_many(cleaned)

    def read_json(self, path: str) -> dict[str, Any]:
        """The mapping in a JSON file; StoreError if it is damaged."""
        content = self.read(path)
        try:
            value = json.loads(content)
        except ValueError as error:
            raise StoreError(f"{path} is not JSON: {error}", where=f"{self.uri}/{path}") from error
        if not isinstance(value, dict):
            raise StoreError(f"{path} holds no JSON object", where=f"{self.uri}/{path}")
        return value

    def exists(self, path: str) -> bool:
        """Whether there is a file of this name (a folder is none)."""
        path = clean(path)
        with self._faults(path):
            return self._files.is_file(path)

    def list(self, prefix: str = "") -> Names:
        """Names of the files and folders directly under a folder, sorted; empty if there is no such folder."""
        prefix = clean_folder(prefix)
        with self._faults(prefix):
            return sorted(self._files.names(prefix))

    def walk(self, prefix: str = "") -> Names:
        """Paths, below the store's root, of all files below a folder, sorted."""
        prefix = clean_folder(prefix)
        with self._faults(prefix):
            return sorted(self._files.walk(prefix))

    def download(self, path: str, local_file: Path) -> None:
        """Copy a file to a local one, which is replaced whole once everything has arrived."""
        path = clean(path)
        with _local_faults(local_file):
            local_file.parent.mkdir(parents=True, exist_ok=True)
        temporary = local_file.with_name(f"{TEMPORARY}{uuid4().hex}")
        try:
            with self._faults(path):
                self._files.download(path, temporary)
            with _local_faults(local_file):
                os.replace(temporary, local_file)
        finally:
            temporary.unlink(missing_ok=True)

    def local_file(self, path: str) -> Path | None:
        """Where a file lies on this machine; None if the store is remote."""
        return self._files.root / clean(path) if isinstance(self._files, LocalFiles) else None

    def download_folder(self, prefix: str, local_folder: Path) -> None:
        """Copy all files below a folder; StoreError if there are none."""
        prefix = clean(prefix)
        paths = self.walk(prefix)
        if not paths:
            raise StoreError(f"there is nothing below {prefix} in the store", where=f"{self.uri}/{prefix}")
        with ThreadPoolExecutor(_TRANSFERS) as pool:
            for _ in pool.map(lambda path: self.download(path, local_folder / path[len(prefix) + 1 :]), paths):
                pass

    def filesystem(self) -> tuple[Any, str]:
        """The fsspec filesystem and the store's folder in it, for Ray Train (pyarrow wraps it)."""
        return self._files.filesystem()

    def check(self) -> None:
        """Prove that the store can be written and read, and that it keeps two writers of one name apart.

        Raises:
            StoreError: it cannot, it lets a second writer win, or its layout is a newer one.
        """
        content = json.dumps({"layout": LAYOUT}).encode()
        self.read_if_there(MARKER)  # some servers answer a write to a missing bucket with a denial, or make the bucket
        try:
            self.create(MARKER, content)
            self.create(MARKER, content)
        except ConflictError:
            self._check_layout()
            return
        raise StoreError(
            "the store lets a second writer replace a file: versions would not be safe",
            where=self.uri,
            fix="use a server that honours If-None-Match on PUT (AWS S3, MinIO, SeaweedFS, Ceph), or a folder",
        )

    def _check_layout(self) -> None:
        layout = self.read_json(MARKER).get("layout")
        if layout != LAYOUT:
            what = f"the store has layout {layout!r}, this version knows {LAYOUT}"
            raise StoreError(what, where=f"{self.uri}/{MARKER}", fix="use a newer Guitarfish, or another store")

    @contextmanager
    def _faults(self, path: str) -> Iterator[None]:
        try:
            yield
        except (StoreError, ConflictError):
            raise
        except Exception as error:
            fault = self._files.fault(error, path)
            if fault is None:
                raise
            raise fault from error


def open_store(uri: str) -> Store:
    """The store at a local folder, a `file://` URI or an object store's URI such as `s3://bucket/prefix`.

    S3 takes its endpoint, keys and region from the AWS_* environment. Nothing is asked of the network here.

    Raises:
        StoreError: no scheme of a store, no bucket, a package that is missing, a file where the folder should be.
    """
    return Store(uri)


def _open(uri: str) -> tuple[Any, str]:
    match = _URI.fullmatch(uri)
    if match is None or match["scheme"] == "file":
        return _open_local(match["rest"] if match else uri, absolute=bool(match))
    scheme, root = match["scheme"].lower(), match["rest"].strip("/")
    _check_scheme(scheme, uri)
    if carries_credentials(uri):
        raise StoreError(
            "the store's URI has a user, a password or a query in it, and would be written into every record",
            where="store",
            fix=f"write {scheme}://bucket/prefix, and give the credentials in the environment (AWS_* for S3)",
        )
    if len(match["slashes"]) != 2 or "::" in uri:
        raise StoreError(f"{uri!r} is not a store's URI", where="store", fix=f"write {scheme}://bucket/prefix")
    if not root:
        raise StoreError(f"{uri!r} names no bucket", where="store", fix=f"write {scheme}://bucket/prefix")
    bucket, _, prefix = root.partition("/")
    return _open_remote(scheme, f"{bucket}/{clean(prefix)}" if prefix else bucket, uri)


def _open_local(text: str, absolute: bool) -> tuple[LocalFiles, str]:
    if not text.strip():
        raise StoreError("the store is empty text", where="store", fix="give a folder or s3://bucket/prefix")
    root = Path("/", text) if absolute else Path(os.path.abspath(os.path.expanduser(text)))
    with _local_faults(root):
        if root.exists() and not root.is_dir():
            fix = "move it away, or set `store` to a folder"
            raise StoreError(f"{root} is a file, a store is a folder", where=str(root), fix=fix)
    return LocalFiles(root), str(root)


def _check_scheme(scheme: str, uri: str) -> None:
    if scheme in SCHEMES:
        return
    near = get_close_matches(scheme, SCHEMES, 1, 0.5)
    fix = f"did you mean {near[0]}://? " if near else ""
    fix += "A store is a folder or s3://bucket/prefix (also gs://, abfs://)"
    raise StoreError(f"{scheme}:// cannot hold a store: {uri!r}", where="store", fix=fix)


def _open_remote(scheme: str, root: str, uri: str) -> tuple[Any, str]:
    from cluster.remote_files import RemoteFiles

    for name in ENDPOINTS:
        if carries_credentials(os.environ.get(name, "")):
            fix = f"set {name} to http(s)://host:port, and give the credentials in AWS_* variables"
            raise StoreError(f"{name} has a user or a password in it, which S3 does not take", where=name, fix=fix)

    try:
        return RemoteFiles(scheme, root), f"{scheme}://{root}"
    except ImportError as error:
        package = {"s": "s3fs", "g": "gcsfs", "a": "adlfs"}[scheme[0]]
        raise StoreError(
            f"{scheme}:// needs the package {package}: {error}", where=uri, fix=f"pip install {package}"
        ) from error


@contextmanager
def _local_faults(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise local_fault(error, path.parent, path.name) from error
