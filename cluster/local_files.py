"""The store's files in a local folder: complete when they become visible, and never replaced."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from cluster.paths import TEMPORARY, under
from cluster.store_faults import local_fault
from runspec.errors import ConflictError, StoreError


class LocalFiles:
    """Files below a folder, which is made by the first write.

    Exclusive create is a temporary file in the same folder, flushed to disk and then hard-linked under its name:
    `link` fails where the name is taken, and the name appears with all the content at once.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self, path: str, data: bytes) -> None:
        """Write a new file. Raises FileExistsError, OSError."""
        self._create(path, lambda file: file.write(data))

    def upload(self, local_file: Path, path: str) -> None:
        """Copy a file in as a new file. Raises FileExistsError, OSError."""
        with local_file.open("rb") as source:
            self._create(path, lambda file: shutil.copyfileobj(source, file, 1 << 20))

    def _create(self, path: str, write: Callable[[IO[bytes]], object]) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{TEMPORARY}{uuid4().hex}")
        try:
            with temporary.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            _link(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(target.parent)

    def read(self, path: str) -> bytes:
        """The content. Raises FileNotFoundError, OSError."""
        return (self.root / path).read_bytes()

    def read_many(self, paths: Sequence[str]) -> dict[str, bytes]:
        """The contents of several files."""
        return {path: self.read(path) for path in paths}

    def is_file(self, path: str) -> bool:
        """Whether there is a file of this name."""
        return (self.root / path).is_file()

    def names(self, folder: str) -> list[str]:
        """Names of files and folders directly under a folder."""
        try:
            found = os.listdir(self.root / folder)
        except FileNotFoundError:
            return []
        return [name for name in found if not name.startswith(TEMPORARY)]

    def walk(self, folder: str) -> list[str]:
        """Paths of all files below a folder."""
        top = self.root / folder
        found = []
        for parent, _, names in os.walk(top, onerror=_unless_missing):
            inside = Path(parent).relative_to(self.root).as_posix().removeprefix(".")
            found += [under(inside, name) for name in names if not name.startswith(TEMPORARY)]
        return found

    def download(self, path: str, local_file: Path) -> None:
        """Copy a file out. Raises FileNotFoundError, OSError."""
        shutil.copyfile(self.root / path, local_file)

    def filesystem(self) -> tuple[Any, str]:
        """The fsspec filesystem, and the folder in it."""
        import fsspec

        return fsspec.filesystem("file"), str(self.root)

    def fault(self, error: Exception, path: str) -> Exception | None:
        """What the user should read of an error of these files; None for what is none of theirs."""
        if isinstance(error, FileExistsError) and (self.root / path).is_file():
            return ConflictError(f"{path} is in the store already", where=str(self.root / path))
        return local_fault(error, self.root, path) if isinstance(error, OSError) else None


def _link(temporary: Path, target: Path) -> None:
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        raise StoreError(
            f"the filesystem of the store cannot make hard links ({error.strerror}), which keep writers apart",
            where=str(target.parent),
            fix="put the store on a filesystem that can (ext4, xfs, APFS, NFS), or use s3://",
        ) from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
