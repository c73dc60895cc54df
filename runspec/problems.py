"""Pydantic's validation errors in the user's words: which key, where it was written, what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from runspec.document import Document
from runspec.document import Key as Path
from runspec.errors import SpecError
from runspec.run import RunSpec
from runspec.strict import Strict
from runspec.tree import every_key, expected, items, kind_of, models

OTHER_NAMES = {
    "lr": "learning_rate",
    "r": "rank",
    "lora_r": "rank",
    "lora_rank": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "target_modules": "targets",
    "use_dora": "dora",
    "use_rslora": "rslora",
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "batch_size": "batch_size_per_device",
    "micro_batch_size": "batch_size_per_device",
    "per_device_train_batch_size": "batch_size_per_device",
    "gradient_accumulation_steps": "gradient_accumulation",
    "lr_scheduler_type": "schedule",
    "save_steps": "checkpoint_every_steps",
    "max_seq_length": "max_length",
    "sequence_len": "max_length",
    "base_model": "model",
    "model_name_or_path": "model",
    "dataset": "data",
    "datasets": "data",
    "attn_implementation": "attention",
    "num_workers": "workers",
    "val_set_size": "fraction",
    "type": "kind",
}
"""What other trainers call our keys."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a run file."""

    what: str
    where: str
    fix: str


@dataclass(frozen=True)
class _Spot:
    """Where an error lies: the path as written, and the section and type that the models have there."""

    path: Path
    section: type[Strict]
    annotation: Any
    unknown: bool = False


def spec_error(error: ValidationError, document: Document) -> SpecError:
    """One error that lists every problem of the run file."""
    problems = list(dict.fromkeys(_problem(group, document) for group in _by_path(error.errors())))
    problems.sort(key=lambda problem: _position(problem.where))
    if len(problems) == 1:
        only = problems[0]
        return SpecError(only.what, where=only.where, fix=only.fix)
    lines = [f"the run file has {len(problems)} problems"]
    for number, problem in enumerate(problems, 1):
        lines.append(f"  {number}. {problem.what}\n       where: {problem.where}\n       fix:   {problem.fix}")
    return SpecError("\n".join(lines), where=document.path)


def _position(where: str) -> tuple[int, int]:
    found = re.search(r":(\d+):(\d+)", where)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _by_path(errors: Iterable[ErrorDetails]) -> list[list[ErrorDetails]]:
    """A plain union reports each of its members: together they are one problem, and what lies inside says more."""
    groups: dict[Path, list[ErrorDetails]] = {}
    for error in errors:
        groups.setdefault(locate(error["loc"]).path, []).append(error)
    return [group for path, group in groups.items() if not any(_inside(other, path) for other in groups)]


def _inside(path: Path, around: Path) -> bool:
    return len(around) > 0 and len(path) > len(around) and path[: len(around)] == around


def locate(loc: tuple[int | str, ...]) -> _Spot:
    """Follow pydantic's location through the models, leaving out the tags of unions that it contains."""
    section: type[Strict] = RunSpec
    annotation: Any = RunSpec
    path: Path = ()
    for part in loc:
        choices = models(annotation)
        if isinstance(part, int):
            item = items(annotation)
            annotation = annotation if item is None else item
            path = (*path, part)
        elif len(choices) > 1:
            annotation = next((model for model in choices if kind_of(model) == part), annotation)
        elif choices:
            section, path = choices[0], (*path, part)
            field = section.model_fields.get(part)
            if field is None:
                return _Spot(path, section, None, unknown=True)
            annotation = field.annotation
    return _Spot(path, section, annotation)


def _problem(group: list[ErrorDetails], document: Document) -> Problem:
    error = group[0]
    spot = locate(error["loc"])
    key = dotted(spot.path)
    where = f"{document.place(spot.path)}, key {key}" if key else document.path
    match error["type"]:
        case "extra_forbidden":
            return _unknown_key(spot, document)
        case "missing":
            return _missing(spot, where, key)
        case "union_tag_not_found" | "union_tag_invalid":
            return _wrong_kind(error, spot, document)
        case "value_error":
            return _disagreement(error, document)
        case _:
            return _wrong_value(error, spot, where, key)


def dotted(path: Path) -> str:
    """`evaluation.scorers[0].kind`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _unknown_key(spot: _Spot, document: Document) -> Problem:
    name = str(spot.path[-1])
    parent = dotted(spot.path[:-1])
    place = document.keys.get(spot.path, document.place(spot.path))
    kind = kind_of(spot.section)
    inside = f"`{parent}`" if parent else "the top level"
    if kind is not None and len(_variants(spot)) > 1:
        inside += f" of kind {kind}"
    what = f"`{name}` is no key of {inside}"
    return Problem(what, f"{place}, key {dotted(spot.path)}", nearest(name, spot.section, _variants(spot)))


def _variants(spot: _Spot) -> list[type[Strict]]:
    """The section and its siblings of other kinds."""
    return models(locate(spot.path[:-1]).annotation) or [spot.section]


def nearest(name: str, section: type[Strict], variants: list[type[Strict]]) -> str:
    """What the writer of an unknown key may have meant."""
    here = list(section.model_fields)
    meant = OTHER_NAMES.get(name, name)
    if meant in here:
        return f"write `{meant}`"
    best = max(here, key=lambda candidate: _likeness(name, candidate))
    if _likeness(name, best) >= 0.8:
        return f"did you mean `{best}`?"
    for variant in variants:
        if meant in variant.model_fields:
            return f"`{meant}` is a key of kind {kind_of(variant)}"
    elsewhere = _elsewhere(meant)
    if elsewhere:
        return elsewhere
    if _likeness(name, best) >= 0.6:
        return f"did you mean `{best}`?"
    return f"keys here: {', '.join(here)}"


def _elsewhere(name: str) -> str:
    """Where else in the run file a key of that name, or of nearly that name, stands."""
    keys = [key for key in every_key() if key.name != "kind"]
    found = [key for key in keys if key.name == name] or [key for key in keys if _likeness(key.name, name) >= 0.85]
    if not found:
        return ""
    parents = list(dict.fromkeys(f"`{key.parent}`" if key.parent else "the top level" for key in found))
    if parents == ["the top level"]:
        return f"`{found[0].name}` stands at the top level"
    return f"`{found[0].name}` belongs under {' or '.join(parents[:3])}"


def _likeness(left: str, right: str) -> float:
    return SequenceMatcher(None, left.lower(), right).ratio()


def _missing(spot: _Spot, where: str, key: str) -> Problem:
    field = spot.section.model_fields[str(spot.path[-1])]
    about = (field.description or "").split("\n")[0]
    return Problem(f"`{key}` is missing", where, f"add `{spot.path[-1]}`: {about[:1].lower()}{about[1:]}")


def _wrong_kind(error: ErrorDetails, spot: _Spot, document: Document) -> Problem:
    kinds = [str(kind_of(model)) for model in models(spot.annotation)]
    listed = ", ".join(kinds)
    key = dotted((*spot.path, "kind"))
    where = f"{document.place((*spot.path, 'kind'))}, key {key}"
    if error["type"] == "union_tag_not_found":
        return Problem(f"`{key}` is missing", where, f"add `kind:` with one of {listed}")
    tag = str(error.get("ctx", {}).get("tag"))
    close = max(kinds, key=lambda kind: _likeness(tag, kind))
    guess = f"did you mean {close}? " if _likeness(tag, close) >= 0.6 else ""
    return Problem(f"`{key}` is {tag!r}, which is no kind", where, f"{guess}kinds: {listed}")


def _disagreement(error: ErrorDetails, document: Document) -> Problem:
    """Keys that do not agree with each other: the message names them, the part after the last colon is the fix."""
    message = error["msg"].removeprefix("Value error, ")
    what, separator, fix = message.rpartition(": ")
    named = [tuple(name.split(".")) for name in re.findall(r"[a-z_]+(?:\.[a-z_]+)+", message)]
    places = [f"{document.place(path)}, key {dotted(path)}" for path in dict.fromkeys(named) if path in document.places]
    path = locate(error["loc"]).path  # of the section that the error is about; empty for the whole run file
    where = "; ".join(places) or (f"{document.place(path)}, key {dotted(path)}" if path else document.path)
    return Problem(what if separator else message, where, fix if separator else "change one of the two")


def _wrong_value(error: ErrorDetails, spot: _Spot, where: str, key: str) -> Problem:
    field = None
    if spot.path and isinstance(spot.path[-1], str):
        field = spot.section.model_fields[spot.path[-1]]
    wanted = expected(spot.annotation, field.metadata if field else ())
    what = f"`{key}` is {in_words(error['input'])}, expected {wanted}"
    if error["type"] == "string_pattern_mismatch":
        pattern = error.get("ctx", {}).get("pattern", "")
        about = (field.description or "") if field else ""
        return Problem(f"`{key}` is {in_words(error['input'])}, which does not match {pattern}", where, about)
    return Problem(what, where, _value_fix(error, spot, wanted))


def _value_fix(error: ErrorDetails, spot: _Spot, wanted: str) -> str:
    given = error["input"]
    if isinstance(given, str):
        lowered = given.strip().lower()
        if error["type"] == "bool_type" and lowered in ("yes", "on", "no", "off", "true", "false"):
            return f"write {'true' if lowered in ('yes', 'on', 'true') else 'false'}, without quotes"
        if re.fullmatch(r"[-+]?[\d_]+(\.\d+)?", lowered) and "number" in wanted:
            return f"write {lowered.replace('_', '')}, without quotes"
        if wanted.startswith("one of "):
            options = wanted.removeprefix("one of ").split(", ")
            close = max(options, key=lambda option: _likeness(given, option))
            if _likeness(given, close) >= 0.6:
                return f"did you mean {close}?"
        if lowered in ("none", "nil") and "null" in wanted:
            return "write null"
    if given is None and "null" not in wanted:
        return "give it a value, or remove the key to take the default"
    if isinstance(given, (int, float)) and "text" in wanted:
        return "put it in quotes"
    if models(spot.annotation) and not isinstance(given, dict):
        return f"write its keys on the lines below, indented: {', '.join(models(spot.annotation)[0].model_fields)}"
    return f"write {wanted}"


def in_words(value: Any) -> str:
    """A value as an error message quotes it."""
    if value is None:
        return "null (nothing)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {value if len(value) <= 60 else value[:57] + '...'!r}"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"a section with {', '.join(str(name) for name in list(value)[:4]) or 'no keys'}"
    return f"{value}"
