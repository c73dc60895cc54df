"""Paths in a run file: relative to its folder, in the home folder, or inside an installed package."""

from __future__ import annotations

import importlib.util
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

from runspec.errors import SpecError

PACKAGE = "package:"
PATH_MARK = "a path, relative to the run file's folder"
FilePath = Annotated[str, PATH_MARK]
"""The type of every field that holds a path."""


def absolute_path(text: str, folder: Path) -> str:
    """The path made independent of the working folder. `package:` paths are so already, and stay.

    Whether anything is there is not looked at.
    """
    if text.startswith(PACKAGE):
        return text
    return str((folder.absolute() / Path(text).expanduser()).resolve())


def resolve_path(text: str, folder: Path) -> Path:
    """The file or folder that a run file's path means.

    Args:
        text: a path relative to `folder`, an absolute one, one with `~`, or `package:NAME/inside`.
        folder: the run file's folder.

    Raises:
        SpecError: nothing is there, or the package is not installed.
    """
    if text.startswith(PACKAGE):
        return _in_package(text)
    try:
        path = Path(absolute_path(text, folder))
    except (RuntimeError, ValueError) as error:  # no such home; a null character
        raise SpecError(f"{text!r} is not a path: {error}.", where=text, fix="Correct the path.") from None
    if not path.exists():
        raise SpecError(f"File or folder {text!r} not found.", where=str(path), fix=_nearby(path, folder))
    return path


def _in_package(text: str) -> Path:
    name, _, inside = text.removeprefix(PACKAGE).partition("/")
    if not name.isidentifier():
        raise SpecError(f"{text!r} does not name a package.", where=text, fix="Write it as package:NAME/path/inside.")
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise SpecError(f"Package {name!r} is not installed.", where=text, fix=f"Install the package that has {name}.")
    folder = Path(next(iter(found.submodule_search_locations))).resolve()
    path = (folder / inside).resolve()
    if not path.is_relative_to(folder):
        raise SpecError(f"{text!r} leaves the package's folder.", where=text, fix="Name a file inside the package.")
    if not path.exists():
        raise SpecError(f"{inside!r} not found in package {name}.", where=str(path), fix=_nearby(path, folder))
    return path


def _nearby(path: Path, folder: Path) -> str:
    """Names that are like the missing one, in the folder where it should be."""
    if not path.parent.is_dir():
        return f"Check the path: the folder {path.parent} does not exist. Paths start from {folder.absolute()}."
    names = sorted(entry.name for entry in path.parent.iterdir() if not entry.name.startswith("."))
    if close := get_close_matches(path.name, names, n=3, cutoff=0.5):
        return f"Did you mean {' or '.join(f'`{name}`' for name in close)}?"
    return f"Put it there, or correct the path. In {path.parent}: {', '.join(names[:3]) or 'nothing'}."
