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

from cluster.store.local_files import TEMPORARY, LocalFiles, local_fault
from cluster.store.remote_files import PACKAGES, RemoteFiles
from runspec.errors import ConflictError, StoreError
from runspec.store_uri import carries_credentials

MARKER = "store.json"
"""Proof that a store can be written, and which layout it has."""
LAYOUT = 1
_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):(?P<slashes>/*)(?P<rest>.*)", re.DOTALL)
_TRANSFERS = 8
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
            ConflictError: the name is taken.
        """
        path = _clean(path)
        with self._faults(path):
            self._files.create(path, data)

    def create_json(self, path: str, value: Mapping[str, Any]) -> None:
        """Write a new JSON file. Raises ConflictError."""
        self.create(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())

    def upload(self, local_file: Path, path: str) -> None:
        """Write a new file with the content of a local one. Raises ConflictError."""
        path = _clean(path)
        try:
            local_file.open("rb").close()
        except OSError as error:
            raise StoreError(f"Cannot read `{local_file}`: {error.strerror}.", where=str(local_file)) from error
        with self._faults(path):
            self._files.upload(local_file, path)

    def read(self, path: str) -> bytes:
        """The content of a file. Raises StoreError if it is missing."""
        path = _clean(path)
        with self._faults(path):
            return self._files.read(path)

    def read_if_there(self, path: str) -> bytes | None:
        """The content of a file, None if it is missing: one request instead of `exists` and `read`."""
        path = _clean(path)
        with self._faults(path):
            return self._files.read_if_there(path)

    def read_many(self, paths: Sequence[str]) -> dict[str, bytes]:
        """The contents of several files by path, read at the same time where the store is remote."""
        cleaned = [_clean(path) for path in paths]
        with self._faults(cleaned[0] if cleaned else ""):
            return self._files.read_many(cleaned)

    def read_json(self, path: str) -> dict[str, Any]:
        """The mapping in a JSON file. Raises StoreError if it is missing or damaged."""
        content = self.read(path)
        try:
            value = json.loads(content)
        except ValueError as error:
            raise StoreError(f"`{path}` is not JSON: {error}.", where=f"{self.uri}/{path}") from error
        if not isinstance(value, dict):
            raise StoreError(f"`{path}` is not a JSON object.", where=f"{self.uri}/{path}")
        return value

    def exists(self, path: str) -> bool:
        """Whether there is a file of this name. A folder does not count."""
        path = _clean(path)
        with self._faults(path):
            return self._files.is_file(path)

    def list(self, prefix: str = "") -> Names:
        """Names of the files and folders directly under a folder, sorted; empty if the folder does not exist."""
        prefix = _clean(prefix, empty_allowed=True)
        with self._faults(prefix):
            return sorted(name for name in self._files.names(prefix) if not name.startswith(TEMPORARY))

    def walk(self, prefix: str = "") -> Names:
        """Paths, relative to the store, of all files below a folder, sorted."""
        prefix = _clean(prefix, empty_allowed=True)
        with self._faults(prefix):
            found = self._files.walk(prefix)
        return sorted(path for path in found if not path.rpartition("/")[2].startswith(TEMPORARY))

    def download(self, path: str, local_file: Path) -> None:
        """Copy a file to a local one, which is replaced whole once everything has arrived."""
        path = _clean(path)
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
        """The file on this machine; None if the store is remote."""
        return self._files.root / _clean(path) if isinstance(self._files, LocalFiles) else None

    def download_folder(self, prefix: str, local_folder: Path) -> None:
        """Copy all files below a folder. Raises StoreError if there are none."""
        prefix = _clean(prefix)
        paths = self.walk(prefix)
        if not paths:
            raise StoreError(f"Folder `{prefix}` not found in the store.", where=f"{self.uri}/{prefix}")
        with ThreadPoolExecutor(_TRANSFERS) as pool:
            for _ in pool.map(lambda path: self.download(path, local_folder / path[len(prefix) + 1 :]), paths):
                pass

    def filesystem(self) -> tuple[Any | None, str]:
        """The fsspec filesystem, None for a local folder, and the store's path in it: for Ray Train's checkpoints."""
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
            layout = self.read_json(MARKER).get("layout")
            if layout != LAYOUT:
                what = f"The store has layout {layout!r}; this version knows {LAYOUT}."
                fix = "Use a newer Guitarfish, or another store."
                raise StoreError(what, where=f"{self.uri}/{MARKER}", fix=fix) from None
            return
        raise StoreError(
            "The store lets a second writer replace a file: versions would not be safe.",
            where=self.uri,
            fix="Use a server that honours If-None-Match on PUT (AWS S3, MinIO, SeaweedFS, Ceph), or a folder.",
        )

    @contextmanager
    def _faults(self, path: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            fault = self._files.fault(error, path)
            if fault is None:
                raise
            raise fault from error


def open_store(uri: str) -> Store:
    """The store at a local folder, a `file://` URI or an object store's URI such as `s3://bucket/prefix`.

    S3 takes its endpoint, keys and region from the AWS_* environment. No request is sent here.

    Raises:
        StoreError: an unknown scheme, no bucket, a missing package, a file where the folder should be.
    """
    return Store(uri)


def _open(uri: str) -> tuple[LocalFiles | RemoteFiles, str]:
    match = _URI.fullmatch(uri)
    if match is None or match["scheme"] == "file":
        text = match["rest"] if match else uri
        if not text.strip():
            raise StoreError("The store's URI is empty.", where="store", fix="Give a folder or s3://bucket/prefix.")
        folder = Path("/", text) if match else Path(os.path.abspath(os.path.expanduser(text)))
        with _local_faults(folder):
            if folder.exists() and not folder.is_dir():
                fix = "Move it away, or set `store` to a folder."
                raise StoreError(f"`{folder}` is a file; a store is a folder.", where=str(folder), fix=fix)
        return LocalFiles(folder), str(folder)
    scheme, root = match["scheme"].lower(), match["rest"].strip("/")
    example = f"{scheme}://bucket/prefix"
    if scheme not in PACKAGES:
        near = get_close_matches(scheme, PACKAGES, 1, 0.5)
        fix = f"Did you mean `{near[0]}://`? " if near else ""
        fix += "A store is a folder or s3://bucket/prefix (also gs://, abfs://)."
        raise StoreError(f"`{scheme}://` cannot hold a store: `{uri}`.", where="store", fix=fix)
    if carries_credentials(uri):
        raise StoreError(
            "The store's URI has a user, a password or a query in it, and would be written into every record.",
            where="store",
            fix=f"Write {example}, and give the credentials in the environment (AWS_* for S3).",
        )
    if len(match["slashes"]) != 2 or "::" in uri:
        raise StoreError(f"`{uri}` is not a store's URI.", where="store", fix=f"Write {example}.")
    if not root:
        raise StoreError(f"`{uri}` names no bucket.", where="store", fix=f"Write {example}.")
    bucket, _, prefix = root.partition("/")
    root = f"{bucket}/{_clean(prefix)}" if prefix else bucket
    return RemoteFiles(scheme, root), f"{scheme}://{root}"


def _clean(path: str, *, empty_allowed: bool = False) -> str:
    """A path inside the store without a slash at its end; empty for the store itself."""
    path = path.rstrip("/")
    if not path and empty_allowed:
        return ""
    parts = path.split("/")
    if any(part in ("", ".", "..") or part.startswith(TEMPORARY) or "\0" in part for part in parts):
        fix = "Give a relative path without empty parts or `..`."
        raise StoreError(f"{path!r} is not a path inside a store.", fix=fix)
    return path


@contextmanager
def _local_faults(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise local_fault(error, path) from error
