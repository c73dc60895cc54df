"""The adapter's two files out of a checkpoint or a registry version."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.storage import Store

NAMES = ("adapter_config.json", "adapter_model.safetensors")


@contextmanager
def adapter_files(store: Store, folder: str) -> Iterator[Path]:
    """Fetch the adapter below the store path `folder`, without optimiser state, for the length of a `with`.

    Raises:
        StoreError: one of the files is not there.
    """
    local = Path(tempfile.mkdtemp(prefix="guitarfish-adapter-"))
    try:
        for name in NAMES:
            store.download(f"{folder}/{name}", local / name)
        yield local
    finally:
        shutil.rmtree(local, ignore_errors=True)
