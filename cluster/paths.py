"""Paths inside a store: relative, with forward slashes, and never out of it."""

from __future__ import annotations

from runspec.errors import StoreError

TEMPORARY = ".incoming-"
"""Files whose names begin so are being written, or were when their writer was killed: no listing shows them."""


def clean(path: str) -> str:
    """The path as every backend takes it.

    Raises:
        StoreError: absolute, empty, or with a part such as `..` that would lead elsewhere.
    """
    parts = path.rstrip("/").split("/")
    if any(part in ("", ".", "..") or part.startswith(TEMPORARY) or "\0" in part for part in parts):
        fix = "give a relative path without empty parts or `..`"
        raise StoreError(f"{path!r} is not a path inside a store", fix=fix)
    return "/".join(parts)


def clean_folder(path: str) -> str:
    """Like `clean`, but the empty path is the store itself."""
    return clean(path) if path.rstrip("/") else ""


def under(folder: str, path: str) -> str:
    """A path below a folder; the folder may be the store itself."""
    return f"{folder}/{path}" if folder else path
