"""The commented run file that `guitarfish init` writes: the keys most people change, each with what it means."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from typing import Any

from runspec.load import parse_run
from runspec.run import RunSpec
from runspec.tree import items, kind_of, models

WIDTH = 100


@dataclass(frozen=True)
class Start:
    """What a new run file starts from.

    Attributes:
        name: of the run.
        model: the base model's source, as the run file has it: {"kind": "hub", "id": ...}.
        data: the data's source: {"kind": "file", "path": ...}.
    """

    name: str
    model: dict[str, str]
    data: dict[str, str]


SHOWN: dict[str, tuple[str, ...]] = {
    "model": ("source", "quantization"),
    "data": ("source", "layout", "system_prompt", "on_bad_row", "max_length", "holdout"),
    "lora": ("rank", "alpha", "dropout"),
    "training": ("learning_rate", "batch_size_per_device", "gradient_accumulation", "epochs", "checkpoint_every_steps"),
    "hardware": ("workers", "price_usd_per_hour"),
    "evaluation": ("scorers", "max_new_tokens", "few_shot"),
    "gate": ("metric", "min_gain", "max_drift"),
    "publish": ("adapter", "alias"),
    "serving": ("port", "max_rank"),
}
"""Sections and keys that are written out; the other keys of a section are named in a comment."""


def render(start: Start) -> str:
    """A run file that is valid as it stands, given its data."""
    blocks = [_head(start)]
    for section, keys in SHOWN.items():
        blocks.append(_section(section, keys, start))
    text = "\n".join(blocks)
    parse_run(text, "the run file's template")
    return text


def _head(start: Start) -> str:
    lines = [
        "# A Guitarfish run: `guitarfish check` validates it, `guitarfish train` runs it.",
        "# Every key is described in docs/reference.md. Single values: --set lora.rank=32.",
        "",
    ]
    for name, value in (("name", start.name), ("store", None), ("seed", None)):
        field = RunSpec.model_fields[name]
        lines += [*_comment(field.description, 0), f"{name}: {_yaml(field.default if value is None else value)}"]
    return "\n".join([*lines, ""])


def _section(name: str, keys: tuple[str, ...], start: Start) -> str:
    field = RunSpec.model_fields[name]
    model = models(field.annotation)[0]
    lines = [*_comment(field.description, 0), f"{name}:"]
    given: dict[str, Any] = {"model": {"source": start.model}, "data": {"source": start.data}}.get(name, {})
    for key in keys:
        inner = model.model_fields[key]
        value = given.get(key, inner.default)
        lines += [*_comment(_about(inner.description, inner.annotation), 2), *_assignment(key, value)]
    others = [key for key in model.model_fields if key not in keys]
    if others:
        lines += _comment(f"Also: {', '.join(others)}.", 2)
    return "\n".join([*lines, ""])


def _about(description: str | None, annotation: Any) -> str:
    """The description, and the kinds that a section may have."""
    item = items(annotation)
    kinds = [kind for model in models(annotation if item is None else item) if (kind := kind_of(model))]
    return f"{description or ''} Kinds: {', '.join(kinds)}." if len(kinds) > 1 else description or ""


def _comment(text: str | None, indent: int) -> list[str]:
    prefix = " " * indent + "# "
    return textwrap.wrap(
        " ".join((text or "").split()), WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_on_hyphens=False
    )


def _assignment(key: str, value: Any) -> list[str]:
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    if isinstance(value, tuple):
        dumped = [item.model_dump(mode="json", exclude_defaults=False) for item in value]
        return [f"  {key}:", *(f"    - {_yaml(item)}" for item in dumped)]
    if isinstance(value, dict):
        return [f"  {key}:", *(f"    {name}: {_yaml(inner)}" for name, inner in value.items())]
    return [f"  {key}: {_yaml(value)}"]


def _yaml(value: Any) -> str:
    """A value on one line; text in quotes only where YAML would read it otherwise."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_yaml(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, str) and value and value.replace("_", "a").replace("-", "a").isalnum():
        plain = value.lower() not in ("true", "false", "null") and not value[0].isdigit() and value[0] != "-"
        return value if plain else json.dumps(value)
    if isinstance(value, str) and value.startswith(("./", "/")) and " " not in value and ":" not in value:
        return value
    return json.dumps(value, ensure_ascii=False)
