"""Where this machine keeps what can be made again: dequantised models, fetched adapters, digests, logs of runs."""

import hashlib
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from runspec.strict import Strict

SETTLED_SECONDS = 2.0
"""A file changed more recently than this may change again within one tick of its file system's clock."""


def cache_folder(*parts: str) -> Path:
    """A folder under `$GUITARFISH_CACHE` (default `~/.cache/guitarfish`), made if it is not there."""
    root = os.environ.get("GUITARFISH_CACHE") or os.path.join(os.path.expanduser("~"), ".cache", "guitarfish")
    folder = Path(root, *parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class _Known(Strict):
    size: int
    mtime_ns: int
    sha256: str


def file_sha256(file: Path) -> str:
    """The sha256 of a file, remembered by its path, size and modification time: a second call costs a stat."""
    file = file.resolve()
    memory = cache_folder("digests") / f"{hashlib.sha256(os.fsencode(file)).hexdigest()[:32]}.json"
    before = file.stat()
    with suppress(OSError, ValidationError):  # not remembered, or damaged
        known = _Known.model_validate_json(memory.read_bytes())
        if (known.size, known.mtime_ns) == (before.st_size, before.st_mtime_ns):
            return known.sha256
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    after = file.stat()
    unchanged = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    if unchanged and time.time() - after.st_mtime > SETTLED_SECONDS:
        known = _Known(size=after.st_size, mtime_ns=after.st_mtime_ns, sha256=digest)
        with tempfile.NamedTemporaryFile("w", dir=memory.parent, prefix=".", delete=False) as scratch:
            scratch.write(known.model_dump_json())
        os.replace(scratch.name, memory)
    return digest
