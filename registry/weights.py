"""The two files of an adapter: their checksums, and whether they are what they should be. Reads no tensors."""

from __future__ import annotations

import hashlib
import json
import struct
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
    """Read an adapter's folder through.

    Raises:
        RegistryError: a file is missing, cut short or not what its name says; names the file.
    """
    read_config(folder / CONFIG)
    check_weights(folder / WEIGHTS)
    return checksums(folder)


def checksums(folder: Path) -> AdapterFiles:
    """sha256 of both files. Raises RegistryError."""
    return AdapterFiles(_sha256(folder / CONFIG), _sha256(folder / WEIGHTS))


def read_config(file: Path) -> dict[str, Any]:
    """PEFT's configuration of a LoRA adapter. Raises RegistryError."""
    try:
        config = json.loads(_bytes(file))
    except ValueError as error:
        raise RegistryError(f"{file.name} is not JSON: {error}", where=str(file)) from error
    kind = config.get("peft_type", "LORA") if isinstance(config, dict) else None
    if kind != "LORA" or not isinstance(config.get("r"), int):
        fix = "save the adapter with PEFT's save_pretrained"
        raise RegistryError(f"{file.name} describes no LoRA adapter (peft_type {kind!r})", where=str(file), fix=fix)
    return dict(config)


def check_weights(file: Path) -> None:
    """Check a safetensors file's frame: its header is JSON, and the tensors end where the file ends.

    The format: 8 bytes little-endian header length, header, tensors (github.com/huggingface/safetensors).

    Raises:
        RegistryError: it is not one, it is cut short, or it holds no tensors.
    """
    size = _size(file)
    with file.open("rb") as opened:
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
        raise _bad_weights(file, "it holds no tensors")
    if 8 + length + end != size:
        raise _bad_weights(file, f"it has {size:,} bytes where its header says {8 + length + end:,}")


def _bad_weights(file: Path, problem: str) -> RegistryError:
    fix = "save the adapter again, as safetensors"
    return RegistryError(f"{file.name} is not a whole safetensors file: {problem}", where=str(file), fix=fix)


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(file, error) from error


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise _unreadable(file, error) from error


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: OSError) -> RegistryError:
    if isinstance(error, FileNotFoundError):
        fix = f"an adapter's folder holds {CONFIG} and {WEIGHTS}"
        return RegistryError(f"there is no {file.name}", where=str(file), fix=fix)
    return RegistryError(f"{file.name} cannot be read: {error.strerror}", where=str(file))
