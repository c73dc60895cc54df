"""Run file to model: reads the YAML, applies overrides, validates, and says what is wrong where."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runspec.document import parse, read_text
from runspec.overrides import apply
from runspec.paths import absolute_path
from runspec.problems import spec_error
from runspec.run import RunSpec
from runspec.tree import paths_in


@dataclass(frozen=True)
class LoadedRun:
    """A valid run file.

    Attributes:
        folder: the run file's, absolute: where its relative paths start.
        path: the run file, absolute.
        text: of the run file.
    """

    spec: RunSpec
    folder: Path
    path: Path
    text: str = ""


def load_run(path: str | Path, overrides: Sequence[str] = ()) -> LoadedRun:
    """Read and validate a run file.

    Args:
        path: the YAML file.
        overrides: `key=value` with dotted keys, later ones win; values are read as YAML.

    Raises:
        SpecError: the file, its YAML, a key or a value is wrong; every problem found is listed with its place.
    """
    file = Path(path)
    text = read_text(file)
    return LoadedRun(parse_run(text, str(path), overrides), file.absolute().parent, file.absolute(), text)


def parse_run(text: str, path: str, overrides: Sequence[str] = ()) -> RunSpec:
    """Validate a run file's text; `path` is what messages call it.

    Raises:
        SpecError: as `load_run`.
    """
    document = parse(text, path)
    for override in overrides:
        apply(document, override)
    try:
        # Through JSON, because pydantic's strict mode takes lists for tuples there and still converts nothing else:
        # `rank: "16"` is an error, not a 16.
        return RunSpec.model_validate_json(json.dumps(document.values), strict=True)
    except ValidationError as error:
        raise spec_error(error, document) from None


def resolved(loaded: LoadedRun) -> RunSpec:
    """The same run with absolute paths and an absolute store: valid from every working folder.

    The store is relative to the working folder, every other path to the run file's folder.
    """
    values = absolute_values(loaded.spec, loaded.folder)
    values["store"] = absolute_store(loaded.spec.store)
    return RunSpec.model_validate_json(json.dumps(values), strict=True)


def absolute_values(spec: RunSpec, folder: Path, *, exclude_unset: bool = False) -> dict[str, Any]:
    """The values of a run file, with every path but the store's made absolute from its folder."""
    values = spec.model_dump(mode="json", exclude_unset=exclude_unset)
    for path, text in paths_in(spec):
        section: Any = values
        for part in path[:-1]:
            section = section[part]
        section[path[-1]] = absolute_path(text, folder)
    return values


def absolute_store(uri: str) -> str:
    """A store's URI, with a local folder made absolute."""
    return uri if "://" in uri else absolute_path(uri, Path.cwd())
