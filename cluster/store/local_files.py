"""The store's files in a local folder: complete when they become visible, and never replaced."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO
from uuid import uuid4

from runspec.errors import ConflictError, StoreError

TEMPORARY = ".incoming-"
"""Names that begin so are of files still being written, or left by a writer that was killed: no listing shows them."""


class LocalFiles:
    """Files below a folder, which the first write creates. Methods raise OSError; `fault` explains it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self, path: str, data: bytes) -> None:
        self._create(path, lambda file: file.write(data))

    def upload(self, local_file: Path, path: str) -> None:
        with local_file.open("rb") as source:
            self._create(path, lambda file: shutil.copyfileobj(source, file, 1 << 20))

    def _create(self, path: str, write: Callable[[IO[bytes]], object]) -> None:
        """Write a temporary file, flush it to disk and hard-link it under its name.

        `link` fails where the name is taken, and the name appears with all of its content at once.
        """
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{TEMPORARY}{uuid4().hex}")
        try:
            with temporary.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, target)
        except OSError as error:
            if error.filename2 is None or error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            raise StoreError(
                f"The store's filesystem does not support hard links ({error.strerror}), which keep writers apart.",
                where=str(target.parent),
                fix="Use a filesystem that does (ext4, xfs, APFS, NFS), or s3://.",
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name survives a power cut too
        finally:
            os.close(folder)

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def read_if_there(self, path: str) -> bytes | None:
        try:
            return self.read(path)
        except FileNotFoundError:
            return None

    def read_many(self, paths: Sequence[str]) -> dict[str, bytes]:
        return {path: self.read(path) for path in paths}

    def is_file(self, path: str) -> bool:
        return (self.root / path).is_file()

    def names(self, folder: str) -> list[str]:
        try:
            return os.listdir(self.root / folder)
        except FileNotFoundError:
            return []

    def walk(self, folder: str) -> list[str]:
        found = []
        for parent, _, names in os.walk(self.root / folder, onerror=_unless_missing):
            found += [(Path(parent) / name).relative_to(self.root).as_posix() for name in names]
        return found

    def download(self, path: str, local_file: Path) -> None:
        shutil.copyfile(self.root / path, local_file)

    def filesystem(self) -> tuple[None, str]:
        return None, str(self.root)

    def fault(self, error: Exception, path: str) -> Exception | None:
        """The error to show; None if it does not come from these files."""
        if isinstance(error, FileExistsError) and (self.root / path).is_file():
            return ConflictError(f"`{path}` is already in the store.", where=str(self.root / path))
        return local_fault(error, self.root / path) if isinstance(error, OSError) else None


def local_fault(error: OSError, path: Path) -> StoreError:
    """The error to show for one of the local disk.

    Args:
        path: what was to be read or written, in case the error does not name a file.
    """
    named = error.filename if error.filename and not Path(error.filename).name.startswith(TEMPORARY) else path
    where = str(named)
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            fix = "Free some space, or set `store` to a folder on another disk."
            return StoreError("The disk is full.", where=where, fix=fix)
        case errno.EROFS:
            return StoreError("The filesystem is read-only.", where=where, fix="Set another `store`.")
        case errno.EACCES | errno.EPERM:
            fix = "Change its permissions, or set another `store`."
            return StoreError(f"This user cannot read or write `{where}`.", where=where, fix=fix)
        case errno.ENOTDIR | errno.EEXIST | errno.EISDIR:
            blocking = next((parent for parent in path.parents if parent.exists() and not parent.is_dir()), None)
            if blocking:
                what = f"`{blocking}` is a file where the store needs a folder."
            else:
                what = f"`{where}` is in the way: the store needs a file there."
            return StoreError(what, where=where, fix="Move it away, or set `store` to another folder.")
        case errno.ENOENT:
            return StoreError(f"`{path.name}` not found.", where=where)
    return StoreError(f"The store cannot be used: {error.strerror or error}.", where=where)


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
