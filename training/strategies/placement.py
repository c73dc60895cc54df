"""Which workers a run gets, decided from the run file and what the cluster has."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.machine.session import Session
from runspec.errors import HardwareError
from runspec.hardware import HardwareSpec


@dataclass(frozen=True)
class Placement:
    """The workers of a run.

    Attributes:
        workers: how many.
        gpus_per_worker: 0 on CPU; more than 1 if one worker owns several.
        cpus_per_worker: CPU cores of each, and its compute threads if it has no GPU.
    """

    workers: int
    gpus_per_worker: int
    cpus_per_worker: int

    @property
    def resources(self) -> dict[str, float]:
        """Ray resources of one worker."""
        gpus = {"GPU": float(self.gpus_per_worker)} if self.gpus_per_worker else {}
        return {"CPU": float(self.cpus_per_worker), **gpus}

    @property
    def as_one(self) -> Placement:
        """One worker that owns all GPUs, for a model that does not fit on one card."""
        if not self.gpus_per_worker:
            return self
        return Placement(1, self.workers * self.gpus_per_worker, self.cpus_per_worker)


def one_device_each(spec: HardwareSpec, session: Session) -> Placement:
    """Give each worker a GPU if there are any, and an even share of the CPU cores.

    Raises:
        HardwareError: the run file asks for more than the cluster has.
    """
    gpu = _on_gpus(spec, session)
    if gpu and session.gpus < spec.workers:
        raise HardwareError(
            f"hardware.workers is {spec.workers}, each on a GPU of its own, but the cluster has {session.gpus} GPUs.",
            where="hardware",
            fix=f"Set hardware.workers: {session.gpus}." if session.gpus else "Set hardware.accelerator: cpu.",
        )
    return Placement(spec.workers, int(gpu), _cores(spec, session, spec.workers))


def one_worker_owns_all(spec: HardwareSpec, session: Session) -> Placement:
    """Give one worker all the GPUs that the run file asks for, whether it counts them as workers or by the worker.

    Raises:
        HardwareError: no machine of the cluster has that many.
    """
    if not _on_gpus(spec, session):
        return Placement(1, 0, _cores(spec, session, 1))
    wanted = spec.workers * spec.gpus_per_worker
    if session.largest_node_gpus < wanted:
        raise HardwareError(
            f"The strategy device_map needs {wanted} GPUs in one machine, but the largest has "
            f"{session.largest_node_gpus}.",
            where="hardware.gpus_per_worker",
            fix=f"Set hardware.gpus_per_worker: {session.largest_node_gpus}."
            if session.largest_node_gpus
            else "Set hardware.accelerator: cpu.",
        )
    return Placement(1, wanted, _cores(spec, session, 1))


def _on_gpus(spec: HardwareSpec, session: Session) -> bool:
    return spec.accelerator == "gpu" or (spec.accelerator == "auto" and session.gpus > 0)


def _cores(spec: HardwareSpec, session: Session, workers: int) -> int:
    """CPU cores of each worker.

    Raises:
        HardwareError: there are too few.
    """
    share = spec.cpus_per_worker or max(1, min(8, session.cpus // workers))
    if share * workers > session.cpus:
        raise HardwareError(
            f"{workers} workers of {share} CPU cores need {share * workers}, but the cluster has {session.cpus}.",
            where="hardware",
            fix=f"Set hardware.workers: {max(1, session.cpus // share)}, or a smaller hardware.cpus_per_worker.",
        )
    return share
