"""Where Ray's job API answers: the address that people give, read into the URL of a dashboard."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from runspec.errors import HardwareError
from runspec.store_uri import carries_credentials

DASHBOARD_PORT = 8265
OTHER_PORTS = {6379: "the cluster's own (GCS)", 10001: "Ray Client's"}
"""Ports that Ray listens on too, and that people give for the dashboard's."""
_FORMS = f"Write http://HOST:{DASHBOARD_PORT} (or https://...), the address of the cluster's dashboard."


def dashboard_url(text: str) -> str:
    """The URL of a dashboard: `http://HOST:PORT`, `https://HOST/path` or `HOST:PORT`, without a slash at its end.

    Raises:
        HardwareError: it is nothing of the kind, or holds credentials: they would be written into the run's records.
    """
    address = text.strip()
    where = f"--to {_without_credentials(address)}"
    if carries_credentials(address):
        raise HardwareError(
            "The address has a user, a password or a query in it.",
            where=where,
            fix="Leave them out. Ray's token comes from RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN.",
        )
    if address.startswith("ray://"):
        host = urlsplit(address).hostname or "HOST"
        raise HardwareError(
            "ray:// is Ray Client's address; jobs go to the dashboard.",
            where=where,
            fix=f"Write http://{host}:{DASHBOARD_PORT}.",
        )
    if re.fullmatch(r"(\[[0-9A-Fa-f:]+\]|[\w.-]+):\d+", address):
        address = f"http://{address}"
    try:
        parts = urlsplit(address)
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, a bracket that is not closed
        named = False
    if not named:
        raise HardwareError(f"{text!r} is no address of a Ray cluster.", where="--to", fix=f"{_FORMS} Or --to k8s.")
    return address.rstrip("/")


def port_of(url: str) -> int:
    """The port that a URL asks."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _without_credentials(address: str) -> str:
    return re.sub(r"\?.*", "?...", re.sub(r"//[^/]*@", "//...@", address))
