"""What every part of a run file shares: its settings, and how a check that fails is raised."""

import re

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    """A part of the run file. Field docstrings become the descriptions of the JSON Schema and of the reference."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )


def disagreement(what: str, *keys: str, fix: str) -> PydanticCustomError:
    """What a validator raises.

    Args:
        what: a sentence that quotes the values.
        keys: dotted, from the section of the validator: the error points at those that are written in the run file.
        fix: what the user can do about it, as a sentence.
    """
    return PydanticCustomError("disagreement", "{what}", {"what": what, "keys": keys, "fix": fix})


def check_pattern(pattern: str) -> str:
    """For fields that hold a regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        what = f"{pattern!r} is not a regular expression: {error}."
        raise disagreement(what, fix="Correct the pattern; Python's syntax applies.") from error
    return pattern
