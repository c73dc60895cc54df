"""The two files of an adapter: their checksums, and whether they are complete. Reads no tensors."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runspec.errors import RegistryError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format


@dataclass(frozen=True)
class AdapterFiles:
    """Checksums of an adapter's files."""

    config_sha256: str
    weights_sha256: str


def inspect(folder: Path) -> AdapterFiles:
    """Check both files of an adapter's folder. Raises RegistryError, naming a file that is missing or invalid."""
    read_config(folder / CONFIG)
    check_weights(folder / WEIGHTS)
    return checksums(folder)


def checksums(folder: Path) -> AdapterFiles:
    """sha256 of both files. Raises RegistryError where one cannot be read."""
    digests = []
    for name in (CONFIG, WEIGHTS):
        with _readable(folder / name), (folder / name).open("rb") as opened:
            digests.append(hashlib.file_digest(opened, "sha256").hexdigest())
    return AdapterFiles(*digests)


def read_config(file: Path) -> dict[str, Any]:
    """PEFT's configuration of a LoRA adapter. Raises RegistryError."""
    fix = "Save the adapter with PEFT's save_pretrained."
    try:
        with _readable(file):
            config = json.loads(file.read_bytes())
    except ValueError as error:
        raise RegistryError(f"{file.name} is not valid JSON: {error}.", where=str(file), fix=fix) from error
    settings: dict[str, Any] = config if isinstance(config, dict) else {}
    kind, rank = settings.get("peft_type", "LORA"), settings.get("r")
    if kind != "LORA" or not isinstance(rank, int):
        what = f"{file.name} does not describe a LoRA adapter: peft_type is `{kind}`, r is `{rank}`."
        raise RegistryError(what, where=str(file), fix=fix)
    return settings


def check_weights(file: Path) -> None:
    """Check that a safetensors file is complete: its header is JSON, and the tensors end where the file ends.

    The format: 8 bytes little-endian header length, header, tensors (github.com/huggingface/safetensors).

    Raises:
        RegistryError: it is not a safetensors file, it is truncated, or it contains no tensors.
    """
    with _readable(file), file.open("rb") as opened:
        size = file.stat().st_size
        start = opened.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(size - 8, _MAX_HEADER_BYTES):
            raise _bad_weights(file, "it does not begin with a safetensors header")
        header = opened.read(length)
    try:
        tensors = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _bad_weights(file, "its header is damaged") from error
    if not tensors:
        raise _bad_weights(file, "it contains no tensors")
    if 8 + length + end != size:
        raise _bad_weights(file, f"it has {size:,} bytes, but its header says {8 + length + end:,}")


def _bad_weights(file: Path, problem: str) -> RegistryError:
    fix = "Save the adapter again as safetensors."
    return RegistryError(f"{file.name} is not a complete safetensors file: {problem}.", where=str(file), fix=fix)


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        fix = f"Add it: an adapter's folder contains {CONFIG} and {WEIGHTS}."
        raise RegistryError(f"{file.name} is missing.", where=str(file), fix=fix) from error
    except OSError as error:
        raise RegistryError(f"{file.name} cannot be read: {error.strerror}.", where=str(file)) from error
