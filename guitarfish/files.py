"""Files that the user asked a verb to write."""

from __future__ import annotations

from pathlib import Path

from runspec.errors import UserError


def write_text(file: Path, text: str) -> None:
    """Write a file where the user wants it, with the folders above it.

    Raises:
        UserError: the place cannot be written to.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        what = f"{file} cannot be written: {error.strerror}"
        raise UserError(what, where=str(file), fix="name a place where you may write") from None
