"""The structure of a run file, from its models: which keys a section has, which variants, what a value must be."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union

from pydantic.fields import FieldInfo

from runspec.paths import PATH_MARK
from runspec.run import RunSpec
from runspec.strict import Strict


@dataclass(frozen=True)
class Key:
    """One key of the run file; in its path the items of a list are `[]`, as in `evaluation.scorers[].kind`."""

    path: str
    field: FieldInfo

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


def parts(annotation: Any) -> list[Any]:
    """The alternatives of a type: `A | B | None` gives the three, `Annotated` is looked through."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return parts(typing.get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [part for argument in typing.get_args(annotation) for part in parts(argument)]
    return [annotation]


def models(annotation: Any) -> list[type[Strict]]:
    """The sections that a value of this type may be."""
    return [part for part in parts(annotation) if isinstance(part, type) and issubclass(part, Strict)]


def items(annotation: Any) -> Any | None:
    """The type of a list's items; None for what is not a list."""
    for part in parts(annotation):
        if typing.get_origin(part) is tuple:
            return typing.get_args(part)[0]
    return None


def kind_of(model: type[Strict]) -> str | None:
    """The tag of a variant."""
    field = model.model_fields.get("kind")
    return None if field is None else str(typing.get_args(field.annotation)[0])


def every_key(model: type[Strict] = RunSpec, prefix: str = "") -> Iterator[Key]:
    """All keys of the run file, parents before their children, in the order of the models."""
    for name, field in model.model_fields.items():
        yield Key(f"{prefix}{name}", field)
        item = items(field.annotation)
        inside = f"{prefix}{name}[]." if item is not None else f"{prefix}{name}."
        for child in models(field.annotation if item is None else item):
            yield from every_key(child, inside)


def dotted(path: Sequence[str | int]) -> str:
    """`evaluation.scorers[0].kind`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def is_path(field: FieldInfo) -> bool:
    """Whether the field is a `FilePath`, or may be one."""
    inner = [mark for part in typing.get_args(field.annotation) for mark in typing.get_args(part)]
    return PATH_MARK in (*field.metadata, *inner)


def paths_in(section: Strict, above: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Key and value of every path in a section and below it."""
    for name, field in type(section).model_fields.items():
        value, here = getattr(section, name), (*above, name)
        if isinstance(value, str) and is_path(field):
            yield here, value
        elif isinstance(value, Strict):
            yield from paths_in(value, here)
        elif isinstance(value, tuple):
            for number, item in enumerate(value):
                if isinstance(item, Strict):
                    yield from paths_in(item, (*here, number))


@dataclass(frozen=True)
class Spot:
    """What the models have at a path.

    Attributes:
        section: the model that has the last key of the path.
        variants: the models that the section may be: itself and those of other kinds.
        field: of the key; None where the section has no such key.
    """

    path: tuple[str | int, ...]
    section: type[Strict]
    variants: list[type[Strict]]
    field: FieldInfo | None
    annotation: Any


def locate(loc: Sequence[str | int]) -> Spot:
    """Follow pydantic's location of an error through the models, leaving out the tags of unions that it contains."""
    path: tuple[str | int, ...] = ()
    section: type[Strict] = RunSpec
    variants: list[type[Strict]] = []
    siblings: list[type[Strict]] = []
    field: FieldInfo | None = None
    annotation: Any = RunSpec
    for part in loc:
        choices = models(annotation)
        values = [typing.get_args(each)[1] for each in parts(annotation) if typing.get_origin(each) is dict]
        if isinstance(part, int):
            path, annotation = (*path, part), items(annotation) or annotation
        elif len(choices) > 1:
            siblings, annotation = choices, next((each for each in choices if kind_of(each) == part), annotation)
        elif choices:
            path, section, variants, siblings = (*path, part), choices[0], siblings or choices, []
            field = section.model_fields.get(part)
            annotation = None if field is None else field.annotation
        elif values:
            path, annotation = (*path, part), values[0]
    return Spot(path, section, variants, field, annotation)


LIMITS = {"ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}"}


def expected(annotation: Any, bounds: Sequence[Any] = ()) -> str:
    """What a value of this type must be, in words: "a whole number, at least 1"."""
    if typing.get_origin(annotation) is typing.Annotated:  # a list's items have bounds of their own
        bounds = [*bounds, *(one for extra in annotation.__metadata__ for one in getattr(extra, "metadata", ()))]
    alternatives = parts(annotation)
    limits = [
        text.format(getattr(bound, name)) for bound in bounds for name, text in LIMITS.items() if hasattr(bound, name)
    ]
    noun = "characters" if str in alternatives else "items"
    limits += [f"at least {bound.min_length} {noun}" for bound in bounds if hasattr(bound, "min_length")]
    words = dict.fromkeys(_in_words(part) for part in alternatives if part is not type(None))
    text = ", ".join([" or ".join(words), *limits])
    if type(None) in alternatives:
        return f"{text}, or null" if limits else f"{text} or null"
    return text


def _in_words(part: Any) -> str:
    if typing.get_origin(part) is Literal:
        options = [f"{value}" for value in typing.get_args(part)]
        return options[0] if len(options) == 1 else f"one of {', '.join(options)}"
    if typing.get_origin(part) is tuple:
        inner = parts(typing.get_args(part)[0])[0]
        return "a list of sections" if models(inner) else f"a list of {_in_words(inner)}"
    if typing.get_origin(part) is dict:
        return "names, each with a text"
    if isinstance(part, type) and issubclass(part, Strict):
        return f"a section with keys such as {', '.join(list(part.model_fields)[:4])}"
    return {str: "text", bool: "true or false", int: "a whole number", float: "a number"}.get(part, str(part))
