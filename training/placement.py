"""Which workers a run gets: a pure decision from the run file and what the cluster has."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.session import Session
from runspec.errors import HardwareError
from runspec.hardware import HardwareSpec


@dataclass(frozen=True)
class Placement:
    """The workers of a run.

    Attributes:
        workers: how many.
        gpus_per_worker: 1, or 0 on CPU.
        cpus_per_worker: CPU cores of each, and threads that it computes with where it has no GPU.
    """

    workers: int
    gpus_per_worker: int
    cpus_per_worker: int

    @property
    def resources(self) -> dict[str, float]:
        """Ray resources of one worker."""
        gpus = {"GPU": float(self.gpus_per_worker)} if self.gpus_per_worker else {}
        return {"CPU": float(self.cpus_per_worker), **gpus}


def place(spec: HardwareSpec, session: Session) -> Placement:
    """Give each worker a GPU where there are any, and an even share of the CPU cores.

    Raises:
        HardwareError: the run file asks for more than the cluster has.
    """
    gpu = spec.accelerator == "gpu" or (spec.accelerator == "auto" and session.gpus > 0)
    if gpu and session.gpus < spec.workers:
        raise HardwareError(
            f"hardware.workers is {spec.workers}, one a GPU, but the cluster has {session.gpus} GPUs.",
            where="hardware",
            fix=f"Set hardware.workers: {session.gpus}" if session.gpus else "Set hardware.accelerator: cpu.",
        )
    share = spec.cpus_per_worker or max(1, min(8, session.cpus // spec.workers))
    if share * spec.workers > session.cpus:
        raise HardwareError(
            f"{spec.workers} workers of {share} CPU cores need {share * spec.workers}, "
            f"but the cluster has {session.cpus}.",
            where="hardware",
            fix=f"Set hardware.workers: {max(1, session.cpus // share)}, or a smaller cpus_per_worker.",
        )
    return Placement(spec.workers, int(gpu), share)
