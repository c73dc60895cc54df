"""What the container leaves of the machine: CPU quota and memory limit of Linux control groups, versions 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_UNLIMITED_BYTES = 2**60
"""Version 1 writes a number near 2**63 for no limit."""


def core_limit(root: Path = Path("/")) -> float | None:
    """CPU cores that the quota allows, None without one. The tightest of the group and those around it holds.

    Args:
        root: where /proc and /sys are.
    """
    found = [_quota_v2(_text(folder / "cpu.max")) for folder in _groups(root, "")]
    for folder in _groups(root, "cpu"):
        found.append(_quota_v1(_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")))
    return min((cores for cores in found if cores), default=None)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes of memory that the group may use, None without a limit."""
    texts = [_text(folder / "memory.max") for folder in _groups(root, "")]
    texts += [_text(folder / "memory.limit_in_bytes") for folder in _groups(root, "memory")]
    limits = [int(text) for text in texts if text.isdigit()]
    return min((limit for limit in limits if 0 < limit < _UNLIMITED_BYTES), default=None)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """This process's group and those around it; inside a container only the mount's top may be there."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        if controller and not mount.exists():
            mount = root / "sys/fs/cgroup" / controller
        inside = PurePosixPath(path.lstrip("/"))
        for group in (inside, *inside.parents):
            yield mount / group


def _quota_v2(text: str) -> float | None:
    """`200000 100000` is two cores, `max 100000` is no limit."""
    quota, _, period = text.partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _quota_v1(quota: str, period: str) -> float | None:
    """A quota of -1 is no limit."""
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
