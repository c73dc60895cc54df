"""Files that the user asked a verb to write."""

from __future__ import annotations

from pathlib import Path

from runspec.errors import UserError


def write_text(file: Path, text: str) -> None:
    """Write a file, and make the folders above it.

    Raises:
        UserError: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        what = f"Cannot write {file}: {error.strerror}."
        raise UserError(what, where=str(file), fix="Name a path that you may write to.") from None
