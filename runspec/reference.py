"""The reference page of the run file, written from the models: `python -m runspec.reference > docs/reference.md`."""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic.fields import FieldInfo

from runspec.run import RunSpec
from runspec.strict import Strict
from runspec.tree import expected, items, kind_of, models

HEAD = """\
# The run file

Written from the models in `runspec/` by `make reference`; a test keeps it current.

A run file is YAML. Unknown keys are errors. A section with several kinds is chosen by its key `kind`.
Relative paths start from the run file's folder; `package:NAME/inside` is a file in an installed package.
`--set lora.rank=32` changes one value; `guitarfish schema` prints the JSON Schema for editors.
"""


def reference() -> str:
    """The whole page, in Markdown."""
    simple = [name for name, field in RunSpec.model_fields.items() if not _sections(field)]
    blocks = [HEAD, "## Top level\n", _table(RunSpec, simple)]
    told: dict[type[Strict], str] = {}
    for name, field in RunSpec.model_fields.items():
        if name not in simple:
            blocks += [f"## {name}\n", _intro(field), *_section(name, field, told)]
    return "\n".join(blocks)


def _sections(field: FieldInfo) -> list[type[Strict]]:
    item = items(field.annotation)
    return models(field.annotation if item is None else item)


def _intro(field: FieldInfo) -> str:
    note = "Required." if field.is_required() else ""
    if type(None) in getattr(field.annotation, "__args__", ()):
        note = "May be null."
    return f"{_flat(field.description)} {note}".strip() + "\n"


def _section(path: str, field: FieldInfo, told: dict[type[Strict], str]) -> list[str]:
    """Tables of a section and, below it, of the sections inside; what was told once is referred to."""
    blocks: list[str] = []
    if all(model in told for model in _sections(field)):
        return [f"### `{path}`\n", f"The same kinds as `{told[_sections(field)[0]]}`.\n"]
    for model in _sections(field):
        told[model] = path
        kind = kind_of(model)
        if kind is not None:
            blocks += [f"### `{path}` of kind `{kind}`\n", f"{_flat(model.__doc__)}\n"]
        keys = [name for name in model.model_fields if name != "kind"]
        if keys:
            blocks.append(_table(model, keys))
        for name in keys:
            inner = model.model_fields[name]
            kinds = _sections(inner)
            if kinds and not (kind is not None and len(kinds) > 1):
                heading = [] if len(kinds) > 1 else [f"### `{path}.{name}`\n"]
                blocks += [*heading, *_section(f"{path}.{name}", inner, told)]
    return blocks


def _table(model: type[Strict], keys: list[str]) -> str:
    rows = ["| Key | Value | Default | Meaning |", "|---|---|---|---|"]
    for key in keys:
        field = model.model_fields[key]
        rows.append(f"| `{key}` | {_value(field)} | {_default(field)} | {_escaped(_flat(field.description))} |")
    return "\n".join([*rows, ""])


def _value(field: FieldInfo) -> str:
    kinds = [kind for model in _sections(field) if (kind := kind_of(model))]
    if kinds:
        listed = ", ".join(f"`{kind}`" for kind in kinds)
        noun = "list of sections" if items(field.annotation) is not None else "section"
        return f"{noun}, of kind {listed}"
    if models(field.annotation):
        return "section"
    return _escaped(expected(field.annotation, field.metadata))


def _default(field: FieldInfo) -> str:
    return "required" if field.is_required() else f"`{_escaped(_plain(field.default))}`"


def _plain(value: Any) -> str:
    if isinstance(value, tuple) and all(isinstance(item, Strict) for item in value):
        return f"[{', '.join(_plain(item) for item in value)}]" if value else "[]"
    if isinstance(value, Strict):
        values = value.model_dump(mode="json", exclude_defaults=True)
        kind = kind_of(type(value))
        return f"kind: {kind}" if kind else json.dumps(values)
    return json.dumps(value)


def _flat(text: str | None) -> str:
    return " ".join((text or "").split())


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
