"""The run file that a search writes: the run file it started from, with the chosen rank, alpha and learning rate."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from runspec.load import absolute_store, absolute_values, parse_run
from runspec.run import RunSpec
from tuning.records import SearchRecord
from tuning.space import Trial


def render(record: SearchRecord, trial: Trial, head: list[str], *, absolute: bool = False) -> str:
    """The run file as text; the comments of the run file that the search started from are kept.

    Args:
        head: lines that say where it comes from, written as comments.
        absolute: make its paths absolute, for a folder other than the run file's.
    """
    values = record.written
    if absolute:
        values = absolute_values(_spec(values), Path(record.folder), exclude_unset=True)
        if "store" in values:
            values["store"] = absolute_store(values["store"])
    values = {name: value for name, value in values.items() if name != "tuning"}
    values["lora"] = {**values.get("lora", {}), "rank": trial.rank, "alpha": trial.alpha}
    values["training"] = {**values.get("training", {}), "learning_rate": trial.learning_rate}
    yaml = YAML()
    yaml.width = 110
    yaml.preserve_quotes = True
    commented = yaml.load(record.text) or {}
    _update(commented, values)
    for tree in (commented, values):  # without the comments where a YAML alias made one change two
        written = io.StringIO()
        yaml.dump(tree, written)
        text = "".join(f"# {line}\n" for line in head) + "\n" + written.getvalue()
        if parse_run(text, "the run file of the search") == _spec(values):
            return text
    raise AssertionError("YAML changed a value")


def _spec(values: dict[str, Any]) -> RunSpec:
    return RunSpec.model_validate_json(json.dumps(values))


def _update(tree: dict[str, Any], values: dict[str, Any]) -> None:
    """Change only what differs, so that comments are kept."""
    for name in [name for name in tree if name not in values]:
        tree.pop(name, None)
    for name, value in values.items():
        old = tree.get(name)
        if isinstance(old, dict) and isinstance(value, dict):
            _update(old, value)
        elif old != value:
            tree[name] = value
