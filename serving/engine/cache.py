"""Adapters on this machine's disk: fetched once, checked each time they are loaded."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.machine.cache import cache_folder

if TYPE_CHECKING:
    from registry.adapters import Registry
    from registry.card import AdapterCard

WEIGHTS = "adapter_model.safetensors"


def adapter_folder(registry: Registry, card: AdapterCard) -> Path:
    """The folder of a version on this machine, fetched where it is missing or no longer what the card says.

    The folder's name has the weights' digest: registries of two stores may both hold `NAME@3`.

    Raises:
        RegistryError: the version is gone or damaged.
        StoreError: the store does not answer.
    """
    folder = cache_folder("adapters") / f"{card.adapter}-{card.version}-{card.weights_sha256[:16]}"
    if _intact(folder, card.weights_sha256):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    return registry.fetch(card.adapter, card.version, folder)


def _intact(folder: Path, weights_sha256: str) -> bool:
    weights = folder / WEIGHTS
    if not weights.is_file() or not (folder / "adapter_config.json").is_file():
        return False
    with weights.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == weights_sha256
