"""The machines that a job asks a cluster for, from the plan's row."""

from __future__ import annotations

import math

from cluster.billing.gpus import CARDS
from cluster.jobs.jobs import Machines
from runspec.hardware import HardwareSpec
from runspec.strategy import DeviceMap
from training.planning.planner import Row
from training.planning.sites import GIB

WORKER_CORES = 4
"""CPU cores of a worker's pod if the run file does not say: what the smallest machines with one GPU can spare."""
MEMORY_ROOM = 1.5
"""Memory of a pod as a multiple of the plan's: Ray uses 30 % of a pod's memory for its object store."""
LEAST_MEMORY = 4 * GIB


def machines_of(row: Row, spec: HardwareSpec) -> Machines:
    """A pod for each worker of Ray Train; memory is the plan's peak of all workers and the driver, divided evenly and
    rounded up to a GiB. Pure."""
    owns_all = isinstance(row.strategy, DeviceMap)
    workers = 1 if owns_all else row.cards or spec.workers
    memory = max(LEAST_MEMORY, row.host_bytes / workers * MEMORY_ROOM)
    label = next((card.label for card in CARDS if row.hardware.endswith(f"x {card.label}")), None)
    return Machines(
        workers=workers,
        gpus_per_worker=row.cards if owns_all else min(1, row.cards),
        cpus_per_worker=spec.cpus_per_worker or WORKER_CORES,
        memory_bytes_per_worker=math.ceil(memory / GIB) * GIB,
        gpu_label=label if row.cards else None,
        hours=row.hours,
    )
