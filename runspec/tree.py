"""The shape of a run file, read off its models: which keys a section has, which variants, what a value has to be."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.fields import FieldInfo

from runspec.run import RunSpec
from runspec.strict import Strict


@dataclass(frozen=True)
class Key:
    """One key of the run file.

    Attributes:
        path: dotted; items of a list are `[]`, as in `evaluation.scorers[].kind`.
        section: the model that has it.
        variant: its section's `kind`, where the section has several.
        field: pydantic's description of it.
    """

    path: str
    section: type[Strict]
    variant: str | None
    field: FieldInfo

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def parent(self) -> str:
        """The section it stands in, dotted; empty at the top."""
        return self.path.rpartition(".")[0]


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
    """The type of a list's items; None for what is no list."""
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
        yield Key(f"{prefix}{name}", model, kind_of(model), field)
        item = items(field.annotation)
        inside = f"{prefix}{name}[]." if item is not None else f"{prefix}{name}."
        for child in models(field.annotation if item is None else item):
            yield from every_key(child, inside)


def expected(annotation: Any, bounds: Sequence[Any] = ()) -> str:
    """What a value of this type has to be, in words: "a whole number, at least 1"."""
    words = dict.fromkeys(_in_words(part) for part in parts(annotation) if part is not type(None))
    limits = [limit for limit in (_bound(bound) for bound in (*bounds, *_own_bounds(annotation))) if limit]
    text = ", ".join([" or ".join(words), *limits])
    if type(None) in parts(annotation):
        return f"{text}, or null" if limits else f"{text} or null"
    return text


def _own_bounds(annotation: Any) -> list[Any]:
    """The bounds of a list's items: `Annotated[int, Field(ge=1)]` carries its own."""
    if typing.get_origin(annotation) is not typing.Annotated:
        return []
    return [bound for extra in typing.get_args(annotation)[1:] for bound in getattr(extra, "metadata", ())]


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
        keys = ", ".join(list(part.model_fields)[:4])
        return f"a section with keys such as {keys}"
    return {str: "text", bool: "true or false", int: "a whole number", float: "a number"}.get(part, str(part))


def _bound(bound: Any) -> str:
    match bound:
        case Ge(ge=limit):
            return f"at least {limit}"
        case Gt(gt=limit):
            return f"more than {limit}"
        case Le(le=limit):
            return f"at most {limit}"
        case Lt(lt=limit):
            return f"less than {limit}"
        case MinLen(min_length=limit):
            return f"at least {limit} of them"
    return ""
