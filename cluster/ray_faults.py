"""What Ray's job API can answer but a result, in words and with the way out. No token is ever quoted."""

from __future__ import annotations

from cluster.ray_address import DASHBOARD_PORT, OTHER_PORTS, port_of
from runspec.errors import HardwareError

TOKEN_VARIABLES = "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH (a file) or RAY_AUTH_TOKEN"


def unreachable(url: str, seconds: float | None = None) -> HardwareError:
    """Nobody answers, or not in time."""
    what = "No Ray dashboard answers." if seconds is None else f"The dashboard did not answer in {seconds:g} s."
    return HardwareError(
        what,
        where=url,
        fix=_port_hint(url)
        or "See that the cluster is up and its dashboard can be reached from here; `kubectl port-forward` or `ssh -L` "
        "bring a port of another machine to this one.",
    )


def no_dashboard(url: str) -> HardwareError:
    """Something answers that is not Ray's job API."""
    fix = _port_hint(url) or f"The dashboard's port is {DASHBOARD_PORT} unless it was started with another."
    return HardwareError("What answers there is not a Ray dashboard.", where=url, fix=fix)


def no_tls(url: str) -> HardwareError:
    """https:// at a server that speaks plain HTTP, or whose certificate nobody here has signed."""
    return HardwareError(
        "No safe connection comes about: the server speaks no TLS, or its certificate is not trusted.",
        where=url,
        fix="Write http:// for a plain dashboard; REQUESTS_CA_BUNDLE names certificates of your own.",
    )


def not_allowed(url: str, status: int) -> HardwareError:
    """401: no token was sent; 403: it is not the cluster's."""
    what = "wants a token" if status == 401 else "refuses the token it was sent"
    return HardwareError(
        f"The cluster {what} (HTTP {status}).",
        where=url,
        fix=f"Set {TOKEN_VARIABLES}, to the token that the cluster was started with.",
    )


def no_token(url: str) -> HardwareError:
    """RAY_AUTH_MODE asks for a token, and this machine has none, or one that cannot be read."""
    return HardwareError(
        "RAY_AUTH_MODE=token is set, but no token can be read on this machine.",
        where=url,
        fix="Set RAY_AUTH_TOKEN_PATH (a file) or RAY_AUTH_TOKEN; without either Ray looks at ~/.ray/auth_token.",
    )


def no_nodes(url: str) -> HardwareError:
    """A dashboard without a machine behind it."""
    return HardwareError("The cluster has no machine that is alive.", where=url, fix="Its raylet's log tells why.")


def no_such_job(url: str, job: str) -> HardwareError:
    """The cluster was started anew since, or it is another one."""
    return HardwareError(
        f"The cluster knows no job {job}.",
        where=url,
        fix=f"A cluster forgets its jobs when it ends. `guitarfish runs show` tells how far the run came; "
        f"`guitarfish submit --resume RUN --to {url}` goes on.",
    )


def too_old(url: str, version: str) -> HardwareError:
    """A Ray without today's job API."""
    return HardwareError(
        f"The cluster runs Ray {version}, which lacks today's job API.", where=url, fix="Upgrade the cluster's Ray."
    )


def failed(url: str, status: int, text: str) -> HardwareError:
    """A request that the dashboard could not carry out; the last line of what it says is the cause."""
    lines = [line for line in text.splitlines() if line.strip()]
    cause = lines[-1].strip()[:300] if lines else f"HTTP {status}"
    return HardwareError(
        f"Ray could not do it: {cause}", where=f"{url} (HTTP {status})", fix="The dashboard's logs say more."
    )


def _port_hint(url: str) -> str:
    kind = OTHER_PORTS.get(port_of(url))
    return f"Port {port_of(url)} is {kind}; the dashboard's is {DASHBOARD_PORT}." if kind else ""
