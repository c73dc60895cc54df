"""The token of this machine's own Ray clusters: Ray makes one with the first cluster, and asks for it from then on."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit


def own_token(url: str) -> str | None:
    """The token for a cluster on this machine that asks for one; None where there is none, where RAY_AUTH_MODE says
    already what to do, and for every other address: a token goes only where the user sends it.

    Ray itself takes it so when a program connects to a cluster; its job client does not.
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
