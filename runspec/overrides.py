"""`--set lora.rank=32`: single values of the run file, changed from the command line."""

from __future__ import annotations

from typing import Any

from runspec.document import Document, Key, parse_value
from runspec.errors import SpecError
from runspec.problems import locate


def apply(document: Document, override: str) -> None:
    """Put one override into the document's values, and note it as the place where the value was written.

    A section that the file leaves out starts from its default, so that `--set model.quantization.double=false`
    need not repeat the kind. Whether the key exists is for validation to say, as for any other key.

    Raises:
        SpecError: no `=`, an empty key, or a value inside of what is no section.
    """
    name, equals, text = override.partition("=")
    place = f"--set {override}"
    if not equals or not name.strip():
        raise SpecError(
            f"the override {override!r} is not of the form key=value", where=place, fix="write it as lora.rank=32"
        )
    path: Key = tuple(int(part) if part.isdigit() else part for part in name.strip().split("."))
    if "" in path:
        raise SpecError(f"the key {name!r} has an empty part", where=place, fix="write it as lora.rank=32")
    _put(document, path, parse_value(text, place), place)


def _put(document: Document, path: Key, value: Any, place: str) -> None:
    container: Any = document.values
    for depth, part in enumerate(path):
        _check_container(container, path[:depth], part, place)
        here = path[: depth + 1]
        if depth == len(path) - 1:
            _forget(document, here)
            container[part] = value
            document.places[here] = document.keys[here] = place
        elif isinstance(container, dict) and container.get(part) is None:
            if isinstance(path[depth + 1], int):
                name = ".".join(str(each) for each in here)
                raise SpecError(
                    f"the run file writes no list `{name}`", where=place, fix=f"set the whole list: {name}=[...]"
                )
            container[part] = _default(here)
            document.places[here] = document.keys[here] = place
        container = container[part]


def _check_container(container: Any, path: Key, part: str | int, place: str) -> None:
    name = ".".join(str(each) for each in path)
    if isinstance(container, list):
        if not isinstance(part, int) or part >= len(container):
            what = f"`{name}` is a list of {len(container)}, `{part}` is none of its items"
            raise SpecError(what, where=place, fix=f"items are counted from 0: {name}.0, or set the whole list")
    elif not isinstance(container, dict):
        raise SpecError(f"`{name}` is a single value, it has no `{part}`", where=place, fix=f"write --set {name}=VALUE")


def _default(path: Key) -> dict[str, Any]:
    """The kind that a section has by default; nothing for one that has none."""
    try:
        spot = locate(path)
    except (KeyError, AttributeError):
        return {}
    if spot.unknown or not isinstance(path[-1], str):
        return {}
    default = spot.section.model_fields[path[-1]].default
    kind = getattr(default, "kind", None)
    return {} if kind is None else {"kind": kind}


def _forget(document: Document, path: Key) -> None:
    """What the file wrote there, and below, stands no longer."""
    for places in (document.keys, document.places):
        for key in [key for key in places if key[: len(path)] == path]:
            del places[key]
