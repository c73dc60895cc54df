"""The store: one folder or bucket prefix where runs and adapters lie, in which nothing is ever overwritten.

Writers race through exclusive create. Locally that is a hard link to a finished temporary file, so whoever sees the
name sees the whole content; on S3 it is a PUT with `If-None-Match: *`, which is atomic by itself.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from runspec.errors import ConflictError, StoreError


class Store(ABC):
    """What the rest of Guitarfish knows of a store. Paths are relative to its root, with forward slashes."""

    uri: str

    @abstractmethod
    def create(self, path: str, data: bytes) -> None:
        """Write a new file, whole or not at all.

        Raises:
            ConflictError: there is one of this name.
            StoreError: the store cannot be written.
        """

    @abstractmethod
    def read(self, path: str) -> bytes:
        """A file's content.

        Raises:
            StoreError: there is no such file, or the store cannot be read.
        """

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether there is a file of this name."""

    @abstractmethod
    def list(self, prefix: str) -> list[str]:
        """The names directly below a folder, sorted; none where there is no such folder."""

    @abstractmethod
    def walk(self, prefix: str) -> list[str]:
        """The paths of all files below a folder, sorted."""

    @abstractmethod
    def upload(self, local_file: Path, path: str) -> None:
        """Copy a file of this machine into the store under a new name.

        Raises:
            ConflictError: there is one of this name.
        """

    @abstractmethod
    def download(self, path: str, local_file: Path) -> None:
        """Copy a file of the store to this machine."""

    @abstractmethod
    def filesystem(self) -> tuple[Any, str]:
        """The fsspec file system and this store's root on it, for libraries that write by themselves."""

    def create_json(self, path: str, value: dict[str, Any]) -> None:
        """Write a new JSON file; see `create`."""
        self.create(path, json.dumps(value, indent=1).encode())

    def read_json(self, path: str) -> dict[str, Any]:
        """A JSON file's content.

        Raises:
            StoreError: it is not there, or it is no JSON object.
        """
        try:
            value = json.loads(self.read(path))
        except ValueError as error:
            raise StoreError(
                f"A file of the store is not JSON: {error}", where=f"{self.uri}/{path}", fix="Restore it from a backup."
            ) from error
        if not isinstance(value, dict):
            raise StoreError(
                "A file of the store is not a JSON object.", where=f"{self.uri}/{path}", fix="Restore it from a backup."
            )
        return value

    def download_folder(self, prefix: str, local_folder: Path) -> None:
        """Copy all files below a folder of the store to this machine."""
        for path in self.walk(prefix):
            target = local_folder / path.removeprefix(f"{prefix}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            self.download(path, target)

    def check(self) -> None:
        """See that the store can be reached and written.

        Raises:
            StoreError: it cannot.
        """
        probe = f".probe/{os.getpid()}-{os.urandom(4).hex()}"
        self.create(probe, b"guitarfish")
        self._forget(probe)

    @abstractmethod
    def _forget(self, path: str) -> None:
        """Remove the probe of `check`."""


def open_store(uri: str) -> Store:
    """Open a store by its URI: a local folder, `file://…`, or what fsspec knows with exclusive create, as `s3://…`.

    Nothing is read or written yet, but for a local path that is no folder.

    Raises:
        StoreError: the URI is malformed, or its protocol needs a package that is not installed.
    """
    scheme = urlsplit(uri).scheme if "://" in uri else ""
    if scheme in ("", "file"):
        return LocalStore(Path(uri.removeprefix("file://")).expanduser())
    return RemoteStore(uri.rstrip("/"))


class LocalStore(Store):
    """A store in a folder of this machine, or on a file system that several machines mount."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self.uri = str(self._root)
        if self._root.exists() and not self._root.is_dir():
            raise StoreError(f"{root} is a file, not a folder.", where="store", fix="Name a folder; it may be new.")

    def create(self, path: str, data: bytes) -> None:
        """See `Store.create`."""
        self._place(path, lambda file: file.write_bytes(data))

    def upload(self, local_file: Path, path: str) -> None:
        """See `Store.upload`."""
        self._place(path, lambda file: shutil.copyfile(local_file, file))

    def _place(self, path: str, fill: Callable[[Path], object]) -> None:
        target = self._at(path)
        with self._said(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=target.parent, prefix=".writing-")
            temporary = Path(name)
            try:
                fill(temporary)
                os.fsync(handle)
                temporary.chmod(0o644)  # mkstemp makes files that only their owner can read
                os.link(temporary, target)
            finally:
                os.close(handle)
                temporary.unlink(missing_ok=True)

    def read(self, path: str) -> bytes:
        """See `Store.read`."""
        with self._said(path):
            return self._at(path).read_bytes()

    def exists(self, path: str) -> bool:
        """See `Store.exists`."""
        return self._at(path).is_file()

    def list(self, prefix: str) -> list[str]:
        """See `Store.list`."""
        folder = self._at(prefix)
        if not folder.is_dir():
            return []
        with self._said(prefix):
            return sorted(name for name in os.listdir(folder) if not name.startswith("."))

    def walk(self, prefix: str) -> list[str]:
        """See `Store.walk`."""
        files = (file for file in self._at(prefix).rglob("*") if file.is_file() and not file.name.startswith("."))
        return sorted(file.relative_to(self._root).as_posix() for file in files)

    def download(self, path: str, local_file: Path) -> None:
        """See `Store.download`."""
        with self._said(path):
            shutil.copyfile(self._at(path), local_file)

    def filesystem(self) -> tuple[Any, str]:
        """See `Store.filesystem`."""
        import fsspec

        return fsspec.filesystem("file"), self.uri

    def _forget(self, path: str) -> None:
        self._at(path).unlink(missing_ok=True)

    def _at(self, path: str) -> Path:
        target = (self._root / path).resolve()
        if not target.is_relative_to(self._root.resolve()):
            raise StoreError(f"{path!r} leaves the store.", where=self.uri, fix="Use names without `..`.")
        return target

    @contextmanager
    def _said(self, path: str) -> Iterator[None]:
        """OSError as an error of ours that says what to do."""
        where = f"{self.uri}/{path}"
        try:
            yield
        except FileExistsError as error:
            if not self._at(path).is_file():
                raise StoreError("A folder is in the way of a file.", where=where, fix="Move it away.") from error
            raise ConflictError(f"{path} was written before.", where=where) from error
        except FileNotFoundError as error:
            raise StoreError("There is no such file in the store.", where=where, fix="Check the name.") from error
        except NotADirectoryError as error:
            raise StoreError("A file is in the way of a folder.", where=where, fix="Move it away.") from error
        except OSError as error:
            raise StoreError(
                f"The store cannot be used: {error.strerror or error}.", where=where, fix=_os_fix(error)
            ) from error


def _os_fix(error: OSError) -> str:
    fixes = {
        errno.EACCES: "Give this user write access, or name another store.",
        errno.EPERM: "Give this user write access, or name another store.",
        errno.EROFS: "The file system is read-only: name another store.",
        errno.ENOSPC: "The disk is full: free some space, or name another store.",
    }
    return fixes.get(error.errno or 0, "Check the folder, or name another store.")


class RemoteStore(Store):
    """A store in a bucket, through fsspec. Credentials come from the environment (AWS_*), as for all its users."""

    def __init__(self, uri: str) -> None:
        import fsspec

        self.uri = uri
        parts = urlsplit(uri)
        if not parts.netloc:
            raise StoreError(f"{uri!r} names no bucket.", where="store", fix="Write it as s3://bucket/prefix.")
        self._root = f"{parts.netloc}{parts.path}".rstrip("/")
        try:
            self._fs = fsspec.filesystem(parts.scheme, **_options(parts.scheme))
        except (ValueError, ImportError) as error:
            raise StoreError(
                f"The store {uri!r} cannot be opened: {str(error).splitlines()[0]}",
                where="store",
                fix="Use a local folder or s3://bucket/prefix, or install the package that knows this protocol.",
            ) from error

    def create(self, path: str, data: bytes) -> None:
        """See `Store.create`."""
        with self._said(path):
            self._fs.pipe_file(self._at(path), data, mode="create")

    def upload(self, local_file: Path, path: str) -> None:
        """See `Store.upload`."""
        with self._said(path):
            self._fs.put_file(str(local_file), self._at(path), mode="create")

    def read(self, path: str) -> bytes:
        """See `Store.read`."""
        with self._said(path):
            data: bytes = self._fs.cat_file(self._at(path))
            return data

    def exists(self, path: str) -> bool:
        """See `Store.exists`."""
        with self._said(path):
            try:
                return bool(self._fs.info(self._at(path), refresh=True)["type"] == "file")
            except FileNotFoundError:
                return False

    def list(self, prefix: str) -> list[str]:
        """See `Store.list`."""
        with self._said(prefix):
            try:
                found = self._fs.ls(self._at(prefix), detail=False, refresh=True)
            except FileNotFoundError:
                return []
            own = self._at(prefix)
            return sorted({name.rstrip("/").rpartition("/")[2] for name in found if name.rstrip("/") != own})

    def walk(self, prefix: str) -> list[str]:
        """See `Store.walk`."""
        with self._said(prefix):
            self._fs.invalidate_cache()
            return sorted(name.removeprefix(f"{self._root}/") for name in self._fs.find(self._at(prefix)))

    def download(self, path: str, local_file: Path) -> None:
        """See `Store.download`."""
        with self._said(path):
            self._fs.get_file(self._at(path), str(local_file))

    def filesystem(self) -> tuple[Any, str]:
        """See `Store.filesystem`."""
        return self._fs, self._root

    def _forget(self, path: str) -> None:
        with self._said(path):
            self._fs.rm_file(self._at(path))

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    @contextmanager
    def _said(self, path: str) -> Iterator[None]:
        """What fsspec, botocore and aiohttp raise, as an error of ours that says what to do."""
        where = f"{self.uri}/{path}"
        try:
            yield
        except (StoreError, ConflictError):
            raise
        except Exception as error:  # three libraries, with no class in common
            if _is_conflict(error):
                raise ConflictError(f"{path} was written before.", where=where) from error
            what, fix = _remote_problem(error)
            raise StoreError(what, where=where, fix=fix) from error


def _options(scheme: str) -> dict[str, Any]:
    """Listings are never cached: other machines write too. Timeouts are short enough to wait for."""
    if scheme != "s3":
        return {"use_listings_cache": False}
    config = {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 3}}
    return {"use_listings_cache": False, "config_kwargs": config}


def _is_conflict(error: Exception) -> bool:
    return isinstance(error, FileExistsError) or _code(error) in ("PreconditionFailed", "412", "ConditionalRequestConflict")


def _code(error: BaseException) -> str:
    """The S3 error code behind what s3fs made of it."""
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        seen = seen.__cause__ or seen.__context__
    return ""


def _remote_problem(error: Exception) -> tuple[str, str]:
    code, name = _code(error), type(error).__name__
    line = next((line for line in str(error).splitlines() if line.strip()), name)
    if code == "NoSuchBucket":
        return "There is no such bucket.", "Create it, or check its name."
    if isinstance(error, FileNotFoundError):
        return "There is no such file in the store.", "Check the name of the bucket and of the file."
    if isinstance(error, PermissionError) or code in ("403", "AccessDenied", "SignatureDoesNotMatch"):
        return f"The store refuses access: {line}", "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and their rights."
    if "Credentials" in name:
        return f"There are no credentials for the store: {line}", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    if "Connect" in name or "Endpoint" in name or "Timeout" in name:
        return f"The store does not answer: {line}", "Check the network and AWS_ENDPOINT_URL."
    return f"The store cannot be used: {line}", "Check the store's URI, the network, and the credentials."
