"""Keeps secrets out of what is shown and stored: values of secret variables, and what looks like a secret in a text."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

HIDDEN = "***"
SHORTEST = 8
"""Shorter values are not treated as secrets: they occur inside ordinary words."""
_NAMES = re.compile(r"(^|_)(SECRET|TOKEN|PASSWORD|PASSWD|API_?KEY|CREDENTIALS?)(_|$)", re.IGNORECASE)
_NOT_SECRET = re.compile(r"_(FILE|PATH|URI|URL|DIR)$", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)[^/\s@'\"]+@")
_QUERY = re.compile(r"(://[^\s?'\"]+)\?[^\s,'\"]+")
_API_KEY = re.compile(r"\bgf-[0-9a-f]{4,}-[\w-]{16,}")


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text without secrets: values of variables such as AWS_SECRET_ACCESS_KEY or HF_TOKEN, user, password
    and query in URLs, and keys of `guitarfish keys`, each as `***`.

    Args:
        environment: the process's own, unless given.
    """
    for value in secret_values(os.environ if environment is None else environment):
        text = text.replace(value, HIDDEN)
    text = _QUERY.sub(rf"\1?{HIDDEN}", _USER_INFO.sub(f"{HIDDEN}@", text))
    return _API_KEY.sub(f"gf-{HIDDEN}", text)


def secret_values(environment: Mapping[str, str]) -> list[str]:
    """Values of variables that by their names are secret, the longest first: one may be part of another."""
    found = {
        value
        for name, value in environment.items()
        if len(value) >= SHORTEST and _NAMES.search(name) and not _NOT_SECRET.search(name)
    }
    return sorted(found, key=len, reverse=True)
