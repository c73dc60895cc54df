"""Pydantic's validation errors in the user's words: which key, where it is written, what to write instead."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import Any, NamedTuple, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from runspec.document import Document, Key, Place
from runspec.errors import SpecError
from runspec.tree import Spot, dotted, every_key, expected, kind_of, locate, models, parts

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


class Problem(NamedTuple):
    """One thing that is wrong with a run file; problems are listed in the order of their places."""

    at: Place
    what: str
    where: str
    fix: str


def spec_error(error: ValidationError, document: Document) -> SpecError:
    """One error that lists every problem of the run file."""
    by_path: dict[Key, ErrorDetails] = {}
    for each in error.errors():
        by_path.setdefault(locate(each["loc"]).path, each)
    # A union of plain types reports each of them at one path; what lies inside says more than they do.
    outer = {path[:depth] for path in by_path for depth in range(1, len(path))}
    problems = sorted(_problem(each, document) for path, each in by_path.items() if path not in outer)
    if len(problems) == 1:
        (only,) = problems
        return SpecError(only.what, where=only.where, fix=only.fix)
    lines = [f"The run file has {len(problems)} problems."]
    for number, problem in enumerate(problems, 1):
        lines.append(f"  {number}. {problem.what}\n       where: {problem.where}\n       fix:   {problem.fix}")
    return SpecError("\n".join(lines), where=document.path)


def _problem(error: ErrorDetails, document: Document) -> Problem:
    spot, context = locate(error["loc"]), error.get("ctx", {})
    key, places = dotted(spot.path), [spot.path]
    match error["type"]:
        case "disagreement":
            named = [(*spot.path, *name.split(".")) for name in context["keys"]]
            places = [path for path in named if path in document.places] or places
            what, fix = context["what"], context["fix"]
        case "extra_forbidden":
            kind = f" for kind `{kind_of(spot.section)}`" if len(spot.variants) > 1 else ""
            what, fix = f"Unknown key `{key}`{kind}.", nearest(spot)
            at = document.keys.get(spot.path, document.place(spot.path))
            return Problem(at, what, f"{at.text}, key {key}", fix)
        case "missing":
            about = str(spot.field.description if spot.field else "").partition("\n")[0]
            what, fix = f"`{key}` is missing.", f"Add `{spot.path[-1]}`: {about[:1].lower()}{about[1:]}"
        case "union_tag_not_found" | "union_tag_invalid":
            kinds = [str(kind_of(model)) for model in models(spot.annotation)]
            places = [(*spot.path, "kind")]
            what, fix = f"`{key}.kind` is missing.", f"Add `kind:` with one of {', '.join(kinds)}."
            if error["type"] == "union_tag_invalid":
                what = f"Unknown kind {context['tag']!r} in `{key}.kind`."
                fix = f"{_did_you_mean(context['tag'], kinds)}Use one of {', '.join(kinds)}."
        case "string_pattern_mismatch":
            what = f"`{key}` is {in_words(error['input'])}, which is not allowed."
            about = str(spot.field.description if spot.field else "")
            fix = _value_fix(error["input"], spot, f"text that matches {context['pattern']}") + f" {about}"
        case _:
            is_item = isinstance(spot.path[-1], int)
            wanted = expected(spot.annotation, spot.field.metadata if spot.field and not is_item else ())
            what = f"`{key}` is {in_words(error['input'])}, expected {wanted}."
            fix = _value_fix(error["input"], spot, wanted)
    where = [f"{document.place(path).text}, key {dotted(path)}" for path in places if path]
    return Problem(document.place(places[0]), what, "; ".join(where) or document.path, fix)


def nearest(spot: Spot) -> str:
    """What the writer of an unknown key may have meant."""
    name, section = str(spot.path[-1]), dotted(spot.path[:-1])
    here = list(spot.section.model_fields)
    meant = OTHER_NAMES.get(name, name)
    best = meant if meant in here else max(here, key=lambda candidate: _likeness(name, candidate))
    likeness = 1.0 if meant in here else _likeness(name, best)
    elsewhere = {key.path: _likeness(meant, key.name) for key in every_key() if key.name != "kind"}
    closest = max(elsewhere.values())
    if likeness < 0.8:
        for variant in spot.variants:
            if meant in variant.model_fields:
                return f"Set `kind: {kind_of(variant)}`, which has `{meant}`."
        if closest >= 0.85:
            paths = [path for path, how in elsewhere.items() if how == closest]
            named = [f"`{path}`" if "." in path else f"`{path}` at the top level" for path in paths[:3]]
            return f"Did you mean {' or '.join(named)}?"
    if likeness >= 0.6:
        return f"Did you mean `{section}.{best}`?" if section else f"Did you mean `{best}`?"
    return f"Use one of {', '.join(here)}."


def _likeness(left: str, right: str) -> float:
    return SequenceMatcher(None, left.lower(), right).ratio()


def _did_you_mean(given: str, options: list[str]) -> str:
    close = max(options, key=lambda option: _likeness(given, option))
    return f"Did you mean `{close}`? " if _likeness(given, close) >= 0.6 else ""


def _value_fix(given: Any, spot: Spot, wanted: str) -> str:
    types, sections = parts(spot.annotation), models(spot.annotation)
    if given is None:
        default = "" if spot.field is None or spot.field.is_required() else ", or remove the key to take the default"
        return f"Give it a value{default}."
    if sections and not isinstance(given, dict):
        return f"Set its keys, such as `{dotted(spot.path)}.{next(iter(sections[0].model_fields))}`."
    if isinstance(given, (int, float)) and str in types:
        return "Put it in quotes."
    if isinstance(given, str):
        lowered = given.strip().lower()
        if bool in types and lowered in ("yes", "on", "no", "off", "true", "false"):
            return f"Write {'true' if lowered in ('yes', 'on', 'true') else 'false'}, without quotes."
        if (int in types or float in types) and re.fullmatch(r"[-+]?[\d_]+(\.\d+)?", lowered):
            return f"Write {lowered.replace('_', '')}, without quotes."
        if type(None) in types and lowered in ("none", "nil"):
            return "Write null."
        options = [str(option) for part in types for option in get_args(part)]  # of a Literal
        if options and (guess := _did_you_mean(given, options)):
            return guess.strip()
    return f"Write {wanted}."


def in_words(value: Any) -> str:
    """A value as an error message quotes it."""
    match value:
        case None:
            return "null (nothing)"
        case bool():
            return "true" if value else "false"
        case str():
            return f"the text {value if len(value) <= 60 else value[:57] + '...'!r}"
        case list() | tuple():
            return f"a list of {len(value)}"
        case dict():
            return f"a section with {', '.join(str(name) for name in list(value)[:4]) or 'no keys'}"
    return f"{value}"
