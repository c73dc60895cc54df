"""The run file that a search writes: the run file it started from, with the chosen rank, alpha and learning rate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from runspec.load import LoadedRun, parse_run, resolved
from runspec.run import RunSpec
from tuning.space import Trial

MEANT = "the run file that the search wrote"


def chosen_values(written: dict[str, Any], trial: Trial) -> dict[str, Any]:
    """What a run file says, with the trial's rank, alpha and learning rate, and without `tuning`.

    Args:
        written: the keys that the run file the search started from gives, overrides applied.
    """
    kept = {name: value for name, value in written.items() if name != "tuning"}
    kept["lora"] = {**kept.get("lora", {}), "rank": trial.rank, "alpha": trial.alpha}
    kept["training"] = {**kept.get("training", {}), "learning_rate": trial.learning_rate}
    return kept


def render(written: dict[str, Any], trial: Trial, head: list[str]) -> str:
    """The run file as text.

    Args:
        head: lines that say where it comes from; they become comments.

    Raises:
        SpecError: it would not load.
    """
    values = chosen_values(written, trial)
    comments = "".join(f"# {line}\n" for line in head)
    text = comments + "\n" + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)
    assert parse_run(text, MEANT) == RunSpec.model_validate_json(json.dumps(values)), "YAML changed a value"
    return text


def render_absolute(written: dict[str, Any], folder: Path, trial: Trial, head: list[str]) -> str:
    """The same with absolute paths: for a place other than the run file's folder.

    Args:
        folder: where the relative paths of `written` start.
    """
    spec = RunSpec.model_validate_json(json.dumps(written))
    absolute = resolved(LoadedRun(spec, folder, folder / "run.yaml")).model_dump(mode="json")
    return render(_only(absolute, written), trial, head)


def _only(values: Any, shape: Any) -> Any:
    """`values` without the keys that `shape` does not have: without defaults that nobody wrote."""
    if isinstance(values, dict) and isinstance(shape, dict):
        return {name: _only(inner, shape[name]) for name, inner in values.items() if name in shape}
    if isinstance(values, list) and isinstance(shape, list):
        return [_only(inner, outer) for inner, outer in zip(values, shape, strict=True)]
    return values
