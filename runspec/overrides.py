"""`--set lora.rank=32`: single values of the run file, changed from the command line."""

from __future__ import annotations

from typing import Any

from runspec.document import Document, Key, Place, parse_value
from runspec.errors import SpecError
from runspec.tree import locate


def apply(document: Document, override: str) -> None:
    """Put one override into the document's values, and note it as the place where the value is written.

    A section that the file leaves out starts from its default, so that `--set model.quantization.double=false`
    need not repeat the kind. Whether the key exists is for validation to say, as for any other key.

    Raises:
        SpecError: no `=`, an empty key, or a value inside what is not a section.
    """
    name, equals, text = override.partition("=")
    where = f"--set {override}"
    path: Key = tuple(int(part) if part.isdigit() else part for part in name.strip().split("."))
    if not equals or "" in path:
        what = f"The override {override!r} is not of the form key=value."
        raise SpecError(what, where=where, fix="Write it as `lora.rank=32`.")
    value = parse_value(text, where)
    container: Any = document.values
    for depth, part in enumerate(path):
        _check_container(container, path[:depth], part, where)
        here = path[: depth + 1]
        if depth == len(path) - 1:
            for places in (document.keys, document.places):  # what the file has there, and below, no longer counts
                for key in [key for key in places if key[: len(here)] == here]:
                    del places[key]
            container[part] = value
        elif isinstance(container, dict) and container.get(part) is None:
            if isinstance(path[depth + 1], int):
                name = ".".join(map(str, here))
                raise SpecError(
                    f"The run file has no list `{name}`.", where=where, fix=f"Set the whole list: {name}=[...]."
                )
            container[part] = _default(here)
        else:
            container = container[part]
            continue
        document.places[here] = document.keys[here] = Place(0, 0, where)
        container = container[part]


def _check_container(container: Any, path: Key, part: str | int, where: str) -> None:
    name = ".".join(map(str, path))
    if isinstance(container, list):
        if not isinstance(part, int) or part >= len(container):
            what = f"`{name}` is a list of {len(container)}; it has no item `{part}`."
            raise SpecError(what, where=where, fix=f"Count items from 0, as in `{name}.0`, or set the whole list.")
    elif not isinstance(container, dict):
        what = f"`{name}` is a single value; it has no key `{part}`."
        raise SpecError(what, where=where, fix=f"Write --set {name}=VALUE.")


def _default(path: Key) -> dict[str, Any]:
    """The kind that a section has by default; nothing for one that has none."""
    spot = locate(path)
    kind = getattr(spot.field.default, "kind", None) if spot.field is not None and spot.path == path else None
    return {} if kind is None else {"kind": kind}
