"""Finds the shape of a run's base model on this machine: nothing is downloaded, no weight is read."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

from runspec.errors import ModelError
from runspec.model import FolderModel, GgufModel, HubModel, ModelSpec
from runspec.paths import resolve_path
from training.planning.gguf_header import read_gguf_config
from training.planning.known_models import KNOWN
from training.planning.shapes import ModelShape, shape_from_config


def find_shape(spec: ModelSpec, folder: Path, config: Path | None = None) -> ModelShape:
    """The base model's shape.

    Args:
        spec: the run file's `model`.
        folder: the run file's folder, which relative paths start from.
        config: a config.json to take instead of what `spec` names.

    Raises:
        ModelError: the shape is not known here, or the model is not one that the memory model covers.
        SpecError: a path of the run file leads nowhere.
    """
    if config is not None:
        return _from_file(config, str(config.parent.name or config.name), "--config")
    match spec.source:
        case HubModel():
            return _from_hub(spec.source)
        case FolderModel():
            path = resolve_path(spec.source.path, folder)
            return _from_file(path / "config.json", path.name, "model.source.path")
        case GgufModel():
            file = resolve_path(spec.source.path, folder)
            return shape_from_config(read_gguf_config(file), label=file.stem, where=f"model.source.path: {file}")


def _from_hub(source: HubModel) -> ModelShape:
    if source.id in KNOWN:
        return shape_from_config(KNOWN[source.id], label=source.id, where=f"model.source.id: {source.id}")
    cached = _cached_config(source)
    if cached is not None:
        return _from_file(cached, source.id, "model.source.id")
    near = difflib.get_close_matches(source.id, KNOWN, n=1, cutoff=0.8)
    raise ModelError(
        f"The shape of {source.id!r} is not known here: it is not on this machine and not one of the "
        f"{len(KNOWN)} models that need no download.",
        where=f"model.source.id: {source.id}",
        fix=(f"Did you mean {near[0]!r}? Or name" if near else "Name")
        + " its config.json, which is on its page: --config path/to/config.json",
    )


def _cached_config(source: HubModel) -> Path | None:
    """config.json in the hub's cache on this machine."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:  # the command line alone was installed
        return None
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(source.id, "config.json", revision=source.revision)
    except HFValidationError as error:
        raise ModelError(
            f"{source.id!r} is no id of a model on the hub.",
            where=f"model.source.id: {source.id}",
            fix="Write it as owner/name; for a folder use source: {kind: folder, path: ...}.",
        ) from error
    return Path(found) if isinstance(found, str) else None


def _from_file(file: Path, label: str, key: str) -> ModelShape:
    return shape_from_config(_read(file, key), label=label, where=str(file))


def _read(file: Path, key: str) -> dict[str, Any]:
    where = f"{key}: {file}"
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise ModelError(f"There is no file {file}.", where=where, fix="Name the model's config.json.") from error
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}.", where=where, fix="Name a config.json.") from error
    except ValueError as error:
        raise ModelError(f"{file} is not JSON: {error}.", where=where, fix="Copy the file again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file} is a {type(content).__name__}, not a config.", where=where, fix="Copy it again.")
    return content
