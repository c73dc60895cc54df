"""Models and data named on the command line, as the run file writes them."""

from __future__ import annotations

from pathlib import Path


def model_source(text: str, folder: Path) -> dict[str, str]:
    """A base model: a .gguf file, a folder (one that exists, or written as a path), else a hub id."""
    if text.lower().endswith(".gguf"):
        return {"kind": "gguf", "path": text}
    if text.startswith(("./", "../", "/", "~", "package:")) or (folder / text).is_dir():
        return {"kind": "folder", "path": text}
    return {"kind": "hub", "id": text}


def data_source(text: str, folder: Path) -> dict[str, str]:
    """Data: `hub:ID`, a folder (one that exists, or with a slash at its end), else a file."""
    if text.startswith("hub:"):
        return {"kind": "hub", "id": text.removeprefix("hub:")}
    if text.endswith("/") or (folder / Path(text).expanduser()).is_dir():
        return {"kind": "folder", "path": text}
    return {"kind": "file", "path": text}
