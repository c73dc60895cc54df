"""The store's files in an object store, through fsspec: S3 above all, by If-None-Match."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from cluster.paths import TEMPORARY
from cluster.store_faults import error_code, remote_fault, says_taken
from runspec.errors import ConflictError

CONNECT_SECONDS = 5
READ_SECONDS = 60
WRITER = "guitarfish-writer"
"""Name of the object metadata that says who wrote it."""
BUSY_RETRIES = 5


class RemoteFiles:
    """Files below a prefix of a bucket. Errors come as the filesystem raises them; `fault` puts them into words.

    Args:
        scheme: of the URI, as fsspec knows it.
        root: bucket and prefix, without slashes at the ends.
    """

    def __init__(self, scheme: str, root: str) -> None:
        import fsspec

        self.root = root
        self.scheme = scheme
        self._is_s3 = scheme in ("s3", "s3a")
        self._fs: Any = fsspec.filesystem(scheme, **_options(scheme))

    def create(self, path: str, data: bytes) -> None:
        """Write a new object."""
        self._exclusively(path, lambda **extra: self._fs.pipe_file(self._full(path), data, mode="create", **extra))

    def upload(self, local_file: Path, path: str) -> None:
        """Upload a file as a new object; a large one in parts, which become visible together."""
        full = self._full(path)
        self._exclusively(path, lambda **extra: self._fs.put_file(str(local_file), full, mode="create", **extra))

    def _exclusively(self, path: str, write: Callable[..., object]) -> None:
        """Write once. An answer may get lost after the object was written, and the client's retry then finds the
        name taken: the writer's mark in the metadata tells our own object from another's."""
        mark = uuid4().hex
        extra: dict[str, Any] = {"Metadata": {WRITER: mark}} if self._is_s3 else {}
        for attempt in range(BUSY_RETRIES):
            try:
                write(**extra)
            except Exception as error:
                if error_code(error) == "ConditionalRequestConflict" and attempt < BUSY_RETRIES - 1:
                    time.sleep(0.1 * 2**attempt)  # another writer of the same name is at it
                    continue
                if not says_taken(error) or not self._is_mine(path, mark):
                    raise
            return

    def _is_mine(self, path: str, mark: str) -> bool:
        if not self._is_s3:
            return False
        bucket, key, _ = self._fs.split_path(self._full(path))
        head = self._fs.call_s3("head_object", Bucket=bucket, Key=key)
        return bool(head.get("Metadata", {}).get(WRITER) == mark)

    def read(self, path: str) -> bytes:
        """The content. Raises FileNotFoundError."""
        content: bytes = self._fs.cat_file(self._full(path), **self._one_request())
        return content

    def read_many(self, paths: Sequence[str]) -> dict[str, bytes]:
        """The contents of several objects, asked for at the same time."""
        if not paths:
            return {}
        found = self._fs.cat([self._full(path) for path in paths], **self._one_request())
        return {path: found[self._full(path)] for path in paths}

    def _one_request(self) -> dict[str, int]:
        """s3fs asks for the size first unless it is told to read in one go."""
        return {"max_concurrency": 1} if self._is_s3 else {}

    def is_file(self, path: str) -> bool:
        """Whether there is an object of this name."""
        try:
            return bool(self._fs.info(self._full(path))["type"] == "file")
        except FileNotFoundError as error:
            if error_code(error) == "NoSuchBucket":
                raise
            return False

    def names(self, folder: str) -> list[str]:
        """Names of objects and folders directly under a folder."""
        full = self._full(folder)
        try:
            found = self._fs.ls(full, detail=False)
        except FileNotFoundError as error:
            if error_code(error) == "NoSuchBucket":
                raise
            return []
        return [name for path in found if (name := self._below(path, full)) and not name.startswith(TEMPORARY)]

    def walk(self, folder: str) -> list[str]:
        """Paths of all objects below a folder: one request for each thousand."""
        return [self._below(path, self.root) for path in self._fs.find(self._full(folder))]

    def download(self, path: str, local_file: Path) -> None:
        """Copy an object out."""
        self._fs.get_file(self._full(path), str(local_file))

    def filesystem(self) -> tuple[Any, str]:
        """The fsspec filesystem, and the folder in it."""
        return self._fs, self.root

    def fault(self, error: Exception, path: str) -> Exception | None:
        """What the user should read of an error of these files; None for what is none of theirs."""
        uri = f"{self.scheme}://{self._full(path)}"
        if says_taken(error):
            return ConflictError(f"{path} is in the store already", where=uri)
        endpoint = self._fs.client_kwargs.get("endpoint_url") or self._fs.endpoint_url if self._is_s3 else None
        return remote_fault(error, uri, self.root.partition("/")[0], endpoint)

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def _below(self, path: str, folder: str) -> str:
        return path.removeprefix(folder).strip("/")


def _options(scheme: str) -> dict[str, Any]:
    """Listings are never cached: other writers are at work. An endpoint that does not answer is given up soon."""
    options: dict[str, Any] = {"use_listings_cache": False}
    if scheme in ("s3", "s3a"):
        options["config_kwargs"] = {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"max_attempts": 2, "mode": "standard"},
        }
    return options
