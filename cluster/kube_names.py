"""What a run and its pods are called on Kubernetes: names and label values are short there, and begin with a letter."""

from __future__ import annotations

import hashlib
import re

NAME_LENGTH = 47
"""Longest name of a RayJob or RayService: KubeRay puts more behind it for the cluster, its pods and its services."""
LABEL_LENGTH = 63


def object_name(text: str) -> str:
    """A run's id, or a run file's name, as the name of a RayJob or RayService. Pure; equal texts give equal names.

    KubeRay asks for a DNS-1035 label: small letters, digits and hyphens, a letter first.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "run"
    named = plain if plain[0].isalpha() else f"gf-{plain}"
    return named if named == text and len(named) <= NAME_LENGTH else _shortened(named, text, NAME_LENGTH)


def label_value(text: str) -> str:
    """A text as the value of a label: as it is where Kubernetes takes it, else shortened."""
    if re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", text):
        return text
    return _shortened(re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("_.-"), text, LABEL_LENGTH)


def _shortened(plain: str, text: str, length: int) -> str:
    """The beginning, and a hash of the whole that keeps two long names apart. Short enough texts stay whole."""
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{plain[: length - 9].rstrip('_.-')}-{mark}" if plain else mark
