"""The adapter's two files out of a checkpoint or a registry version."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.store.storage import Store
from registry.adapters import Registry
from runspec.run import RunSpec

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


def start_adapter(spec: RunSpec, store: Store) -> str | None:
    """The folder of the adapter that a run starts from, below the store's root; None where it starts from none."""
    if spec.lora.start_from is None:
        return None
    found = Registry(store).resolve(spec.lora.start_from)
    return f"adapters/{found.name}/versions/{found.version}"
