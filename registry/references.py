"""Names of adapters and aliases, and references to versions: `name`, `name@alias`, `name@3`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from runspec.errors import RegistryError
from runspec.publish import NAME_PATTERN

DEFAULT_ALIAS = "prod"
_NAME_RULE = "lower-case letters, digits and hyphens, at most 63, starting with a letter or digit"


def versions_folder(name: str) -> str:
    return f"adapters/{name}/versions"


@dataclass(frozen=True)
class ResolvedAdapter:
    """One immutable version of an adapter."""

    name: str
    version: int

    @property
    def reference(self) -> str:
        """`name@version`, which always resolves to this version."""
        return f"{self.name}@{self.version}"

    @property
    def folder(self) -> str:
        """Its folder, below the store's root."""
        return f"{versions_folder(self.name)}/{self.version}"


def parse_reference(text: str) -> tuple[str, int | str]:
    """An adapter's name, and a version (int) or an alias (str); a bare name means its alias `prod`.

    Raises:
        RegistryError: it is not a reference. This keeps text from HTTP requests out of the store's paths.
    """
    name, at, target = text.partition("@")
    check_name(name)
    if not at:
        return name, DEFAULT_ALIAS
    if re.fullmatch(r"[0-9]{1,9}", target):
        return name, int(target)
    check_alias(target)
    return name, target


def check_name(name: str) -> None:
    """Raises RegistryError where this cannot be an adapter's name."""
    if not re.fullmatch(NAME_PATTERN, name):
        fix = f"Use {_NAME_RULE}; an alias or a version may follow after an @."
        raise RegistryError(f"{_quoted(name)} is not a valid adapter name.", where="adapter name", fix=fix)


def check_alias(alias: str) -> None:
    """Raises RegistryError where this cannot be an alias; digits alone would read as a version."""
    if not re.fullmatch(NAME_PATTERN, alias) or alias.isdigit():
        fix = f"Use {_NAME_RULE}, and not only digits."
        raise RegistryError(f"{_quoted(alias)} is not a valid alias.", where="alias", fix=fix)


def suggest(wanted: str, known: Iterable[str], none: str) -> str:
    """The fix for a name that does not exist: the nearest names, else the first ten, else `none`."""
    names = sorted(known)
    near = get_close_matches(wanted, names, 3, 0.5)
    if near:
        return f"Did you mean {' or '.join(f'`{name}`' for name in near)}?"
    if not names:
        return none
    return f"Use one of: {', '.join(names[:10])}" + (f" and {len(names) - 10} more." if len(names) > 10 else ".")


def _quoted(text: str) -> str:
    return f"`{text if len(text) <= 80 else f'{text[:77]}...'}`".replace("\n", "\\n")
