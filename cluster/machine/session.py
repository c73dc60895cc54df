"""The Ray session of a command: an existing cluster, or one that it starts on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.machine.identity import own_addresses
from runspec.errors import HardwareError


@dataclass(frozen=True)
class Node:
    """A machine of a Ray cluster.

    Attributes:
        address: its IP address.
        gpus: GPUs that Ray has on it.
        gpu_kind: Ray's name for them, `L4` or `GeForce-RTX-4090`; empty where it gives none.
    """

    address: str
    gpus: int
    gpu_kind: str = ""


@dataclass(frozen=True)
class Session:
    """A Ray cluster this process is connected to.

    Attributes:
        cpus: CPU cores of all nodes.
        gpus: GPUs of all nodes.
        largest_node_gpus: GPUs of the node that has the most.
        nodes: how many nodes are alive.
        own: this process started it, and it ends with the process.
        logs: folder of Ray's own logs, where this process started it.
        machines: the live nodes.
    """

    cpus: int
    gpus: int
    largest_node_gpus: int
    nodes: int
    own: bool
    logs: Path | None
    machines: tuple[Node, ...] = ()

    @property
    def here(self) -> bool:
        """Whether all of it is on this machine."""
        return self.own or (bool(self.machines) and all(one.address in own_addresses() for one in self.machines))


_TOKEN_NOTICE = "ray._private.authentication.authentication_token_setup"
"""The module of Ray that prints at every start that its clusters ask for a token."""


def on_a_cluster() -> bool:
    """Whether RAY_ADDRESS names a cluster, so that workers may be on other machines."""
    return os.environ.get("RAY_ADDRESS") not in (None, "", "local")


@contextmanager
def connect() -> Iterator[Session]:
    """Connect to the cluster in RAY_ADDRESS, or start one on this machine; shut down at the end.

    A process that is already connected stays so, before and after.

    Raises:
        HardwareError: the cluster does not answer, or none can be started here.
    """
    import ray

    logging.getLogger(_TOKEN_NOTICE).setLevel(logging.ERROR)
    if ray.is_initialized():
        yield _session(own=False, logs=None)
        return
    address = os.environ["RAY_ADDRESS"] if on_a_cluster() else "local"
    options: dict[str, object] = {"include_dashboard": False} if address == "local" else {}
    try:
        context = ray.init(
            address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False, **options
        )
    except Exception as error:  # ray raises ConnectionError, RuntimeError, TimeoutError and its own
        raise _no_ray(address, error) from error
    try:
        session_folder = context.address_info.get("session_dir") if address == "local" else None
        yield _session(own=address == "local", logs=Path(session_folder) / "logs" if session_folder else None)
    finally:
        ray.shutdown()


def _session(*, own: bool, logs: Path | None) -> Session:
    import ray

    resources = ray.cluster_resources()
    alive = [node for node in ray.nodes() if node["Alive"]]
    return Session(
        cpus=int(resources.get("CPU", 0)),
        gpus=int(resources.get("GPU", 0)),
        largest_node_gpus=int(max((node["Resources"].get("GPU", 0) for node in alive), default=0)),
        nodes=len(alive),
        own=own,
        logs=logs,
        machines=tuple(_node(node) for node in alive),
    )


def _no_ray(address: str, error: Exception) -> HardwareError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if address == "local":
        return HardwareError(
            f"Ray cannot be started on this machine: {reason}",
            where=str(Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray/session_latest/logs"),
            fix="If the machine is busy with other work, wait and try again; "
            "otherwise raylet.out and gcs_server.out there have the reason.",
        )
    return HardwareError(
        f"Ray cannot be reached: {reason}",
        where=f"RAY_ADDRESS={address}",
        fix="Check the address, or unset RAY_ADDRESS to start Ray on this machine.",
    )


def _node(node: dict[str, Any]) -> Node:
    resources = node["Resources"]
    kinds = [name.partition(":")[2] for name in resources if name.startswith("accelerator_type:")]
    return Node(node["NodeManagerAddress"], int(resources.get("GPU", 0)), kinds[0] if kinds else "")
