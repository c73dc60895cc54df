"""The folder for what can be made again: dequantised models, fetched adapters, logs of runs."""

import os
from pathlib import Path


def cache_folder(*parts: str) -> Path:
    """A folder under `$GUITARFISH_CACHE` (default `~/.cache/guitarfish`), made if it is not there."""
    root = os.environ.get("GUITARFISH_CACHE") or os.path.join(os.path.expanduser("~"), ".cache", "guitarfish")
    folder = Path(root, *parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
