"""Names of adapters and aliases, and references to versions: `name`, `name@alias`, `name@3`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from runspec.errors import RegistryError
from runspec.publish import NAME_PATTERN

DEFAULT_ALIAS = "prod"
_NAME_RULE = "small letters, digits and hyphens, 63 at most, beginning with a letter or digit"


@dataclass(frozen=True)
class ResolvedAdapter:
    """One immutable version of an adapter."""

    name: str
    version: int

    @property
    def reference(self) -> str:
        """`name@version`, which resolves to this version for ever."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Reference:
    """A reference as it was written: to a version, or to what an alias points to."""

    name: str
    version: int | None
    alias: str | None


def parse_reference(text: str) -> Reference:
    """Read a reference; a bare name means its alias `prod`.

    Raises:
        RegistryError: it is none, which keeps what came over HTTP out of the store's paths.
    """
    name, at, target = text.partition("@")
    check_name(name)
    if not at:
        return Reference(name, None, DEFAULT_ALIAS)
    if re.fullmatch(r"[0-9]{1,9}", target):
        return Reference(name, int(target), None)
    check_alias(target)
    return Reference(name, None, target)


def check_name(name: str) -> None:
    """Raises RegistryError where no adapter can be called so."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise RegistryError(f"{_short(name)} is no adapter's name", fix=f"{_NAME_RULE}; then @alias or @version")


def check_alias(alias: str) -> None:
    """Raises RegistryError where no alias can be called so; digits alone would read as a version."""
    if not re.fullmatch(NAME_PATTERN, alias) or alias.isdigit():
        raise RegistryError(f"{_short(alias)} is no alias", fix=f"{_NAME_RULE}, and not digits alone")


def suggest(wanted: str, known: Iterable[str], none: str) -> str:
    """The fix for a name that does not exist: the nearest ones, else all of few, else `none`."""
    names = sorted(known)
    near = get_close_matches(wanted, names, 3, 0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    if not names:
        return none
    return f"there is {', '.join(names[:10])}" + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
