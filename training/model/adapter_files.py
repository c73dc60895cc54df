"""The adapter's two files, without optimiser state, from a checkpoint or a registry version."""

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
    """A local copy of the adapter in this folder of the store. Raises StoreError."""
    local = Path(tempfile.mkdtemp(prefix="guitarfish-adapter-"))
    try:
        for name in NAMES:
            store.download(f"{folder}/{name}", local / name)
        yield local
    finally:
        shutil.rmtree(local, ignore_errors=True)


def start_adapter(spec: RunSpec, store: Store) -> str | None:
    """The folder in the store of the adapter that a run starts from, if it starts from one."""
    if spec.lora.start_from is None:
        return None
    return Registry(store).resolve(spec.lora.start_from).folder
