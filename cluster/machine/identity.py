"""The user and the machine that records in the store name, and the machine's own addresses."""

from __future__ import annotations

import getpass
import os
import socket
from functools import cache

import psutil


def user_name() -> str:
    """The user's name; its number where the system has no name for it, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


def host_name() -> str:
    return socket.gethostname()


def whoami() -> str:
    return f"{user_name()}@{host_name()}"


@cache
def own_addresses() -> frozenset[str]:
    """The IP addresses of this machine's interfaces, loopback included."""
    return frozenset(
        one.address.partition("%")[0]
        for interface in psutil.net_if_addrs().values()
        for one in interface
        if one.family in (socket.AF_INET, socket.AF_INET6)
    )
