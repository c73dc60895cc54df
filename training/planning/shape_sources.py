"""Finds the shape of a run's base model on this machine: nothing is downloaded, no weight is read."""

from __future__ import annotations

import csv
import difflib
import json
from functools import cache
from pathlib import Path
from typing import Any

from runspec.errors import ModelError
from runspec.model import FolderModel, GgufModel, HubModel, ModelSpec
from runspec.paths import resolve_path
from training.planning.gguf_header import read_gguf_config
from training.planning.shapes import ModelShape, shape_from_config

KNOWN_MODELS = Path(__file__).with_name("known_models.csv")
"""One model a line: its hub id, and what its config.json says; an empty cell where that says nothing."""


@cache
def known_models() -> dict[str, ModelShape]:
    """Models that can be planned without a download, by their hub id."""
    with KNOWN_MODELS.open(newline="") as file:
        rows = [dict(row) for row in csv.DictReader(file)]
    shapes = {}
    for row in rows:
        name, family = row.pop("id"), row.pop("model_type")
        config = {key: json.loads(value) for key, value in row.items() if value}
        shapes[name] = shape_from_config({"model_type": family, **config}, label=name, where=str(KNOWN_MODELS))
    return shapes


def find_shape(spec: ModelSpec, folder: Path, config: Path | None = None) -> ModelShape:
    """The base model's shape.

    Args:
        spec: the run file's `model`.
        folder: the run file's folder, which relative paths start from.
        config: a config.json to use instead of what `spec` names.

    Raises:
        ModelError: the shape is not known here, or the memory model does not cover the model.
        SpecError: a path of the run file does not exist.
    """
    if config is not None:
        return _from_file(config, config.parent.name or config.name, "--config")
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
    known = known_models()
    if source.id in known:
        return known[source.id]
    cached = _cached_config(source)
    if cached is not None:
        return _from_file(cached, source.id, "model.source.id")
    near = difflib.get_close_matches(source.id, known, n=1, cutoff=0.8)
    raise ModelError(
        f"The shape of `{source.id}` is not known: it is not on this machine and not one of the {len(known)} models "
        "that need no download.",
        where=f"model.source.id: {source.id}",
        fix=(f"Did you mean `{near[0]}`? " if near else "")
        + "Download its config.json from its page on the hub, and pass it: --config path/to/config.json.",
    )


def _cached_config(source: HubModel) -> Path | None:
    """config.json in the hub's cache on this machine."""
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:  # only the command line is installed
        return None
    try:
        found = try_to_load_from_cache(source.id, "config.json", revision=source.revision)
    except HFValidationError as error:
        raise ModelError(
            f"`{source.id}` is not a model id of the hub.",
            where=f"model.source.id: {source.id}",
            fix="Write it as owner/name; for a folder use source: {kind: folder, path: ...}.",
        ) from error
    return Path(found) if isinstance(found, str) else None


def _from_file(file: Path, label: str, key: str) -> ModelShape:
    where = f"{key}: {file}"
    try:
        content: Any = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise ModelError(f"File `{file}` not found.", where=where, fix="Name the model's config.json.") from error
    except OSError as error:
        raise ModelError(f"Cannot read `{file}`: {error.strerror}.", where=where, fix="Name a config.json.") from error
    except ValueError as error:
        raise ModelError(f"`{file}` is not JSON: {error}.", where=where, fix="Copy the file again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"`{file}` is a {type(content).__name__}, not a config.", where=where, fix="Copy it again.")
    return shape_from_config(content, label=label, where=str(file))
