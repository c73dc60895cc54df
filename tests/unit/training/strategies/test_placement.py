"""Which workers a run gets."""

import pytest

from cluster.machine.session import Session
from runspec.errors import HardwareError
from runspec.hardware import HardwareSpec
from training.strategies.placement import Placement, one_device_each


def session(cpus: int, gpus: int = 0) -> Session:
    return Session(cpus=cpus, gpus=gpus, largest_node_gpus=gpus, nodes=1, own=True, logs=None)


def test_cpu_cores_are_shared_out_evenly() -> None:
    assert one_device_each(HardwareSpec(workers=2), session(5)) == Placement(
        workers=2, gpus_per_worker=0, cpus_per_worker=2
    )


def test_gpus_are_taken_where_there_are_any() -> None:
    assert one_device_each(HardwareSpec(workers=2), session(32, gpus=2)) == Placement(2, 1, 8)


def test_cpu_is_taken_where_the_run_file_says_so() -> None:
    assert one_device_each(HardwareSpec(workers=1, accelerator="cpu"), session(4, gpus=2)).gpus_per_worker == 0


@pytest.mark.parametrize(
    ("spec", "cpus", "gpus", "fix"),
    [
        (HardwareSpec(workers=4, accelerator="gpu"), 8, 2, "hardware.workers: 2"),
        (HardwareSpec(workers=1, accelerator="gpu"), 8, 0, "hardware.accelerator: cpu"),
        (HardwareSpec(workers=3, cpus_per_worker=4), 8, 0, "hardware.workers: 2"),
        (HardwareSpec(workers=4), 2, 0, "hardware.workers: 2"),
    ],
)
def test_more_than_the_cluster_has_is_refused_with_what_fits(
    spec: HardwareSpec, cpus: int, gpus: int, fix: str
) -> None:
    with pytest.raises(HardwareError) as caught:
        one_device_each(spec, session(cpus, gpus))
    assert fix in caught.value.fix
