"""How a Ray dashboard is reached: the URL for an address that people give, and this machine's token for it."""

from __future__ import annotations

import os
import re
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from runspec.errors import HardwareError
from runspec.store_uri import carries_credentials

DASHBOARD_PORT = 8265
OTHER_PORTS = {6379: "the cluster's own (GCS)", 10001: "Ray Client's"}
"""Other ports of Ray that people mistake for the dashboard's."""
_FORMS = f"Write http://HOST:{DASHBOARD_PORT} (or https://...), the address of the cluster's dashboard."


def dashboard_url(text: str) -> str:
    """The URL of a dashboard, without a slash at its end, from `http://HOST:PORT`, `https://HOST/path` or `HOST:PORT`.

    Raises:
        HardwareError: it is none of these, or holds credentials, which would end up in the run's records.
    """
    address = text.strip()
    where = f"--to {_without_credentials(address)}"
    if carries_credentials(address):
        raise HardwareError(
            "The address contains a user, a password or a query.",
            where=where,
            fix="Remove it. Ray's token comes from RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN.",
        )
    if address.startswith("ray://"):
        host = urlsplit(address).hostname or "HOST"
        raise HardwareError(
            "ray:// is for Ray Client; jobs go to the dashboard.",
            where=where,
            fix=f"Write http://{host}:{DASHBOARD_PORT}.",
        )
    if re.fullmatch(r"(\[[0-9A-Fa-f:]+\]|[\w.-]+):\d+", address):
        address = f"http://{address}"
    try:
        parts = urlsplit(address)
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # not a port, an open bracket
        named = False
    if not named:
        raise HardwareError(
            f"`{text}` is not the address of a Ray cluster.", where="--to", fix=f"{_FORMS} Or --to k8s."
        )
    return address.rstrip("/")


def port_of(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _without_credentials(address: str) -> str:
    return re.sub(r"\?.*", "?...", re.sub(r"//[^/]*@", "//...@", address))


def own_token(url: str) -> str | None:
    """This machine's own Ray token, for a cluster on this machine that requires one.

    Ray creates the token with a machine's first cluster and requires it from then on. It uses it by itself when a
    program connects to a cluster; its job client does not.

    Returns:
        None where there is no token, where RAY_AUTH_MODE already decides, and for every address that is not loopback:
        a token goes only where the user sends it.
    """
    if "RAY_AUTH_MODE" in os.environ or not _is_loopback(urlsplit(url).hostname or ""):
        return None
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return file.expanduser().read_text().strip() or None
    except OSError:
        return None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"
