"""What an hour of a run on a cluster costs, and the machines that a job asks for."""

from __future__ import annotations

import pytest
from support.planned_runs import machine, shape, site, spec

from cluster.billing.prices import Price, price_of, price_on_cluster
from cluster.jobs.jobs import Machines
from cluster.machine.session import Node, Session
from runspec.hardware import HardwareSpec
from runspec.strategy import DeviceMap
from training.planning.machines import machines_of
from training.planning.planner import Row, choose
from training.planning.prediction import Prediction, planned_price
from training.planning.sites import GIB, Site, cores_site
from training.planning.workload import Workload

SMALL = "HuggingFaceTB/SmolLM2-135M"
LAPTOP = price_of(machine(cores=8), 1, None)
AWAY = (Node("203.0.113.7", 0), Node("203.0.113.8", 2, "GeForce-RTX-4090"))


def session(*machines: Node) -> Session:
    return Session(
        cpus=32, gpus=2, largest_node_gpus=2, nodes=len(machines), own=False, logs=None, machines=machines or AWAY
    )


def planned(where: Site | None, **values: object) -> Prediction:
    asked = spec(SMALL, **values)
    row = choose(asked, shape(SMALL), machine(), Workload(100, 50.0, 60, "counted"), where).prediction
    return Prediction(why="", workload="", row=row)


def price(
    prediction: Prediction | None, where: Session, workers: int, gpus: int, cpus: int, own: float | None = None
) -> Price:
    return price_on_cluster(
        own,
        planned_price(prediction),
        where,
        workers=workers,
        gpus_per_worker=gpus,
        cpus_per_worker=cpus,
        this_machine=LAPTOP,
    )


def test_the_run_files_own_price_wins() -> None:
    found = price(planned(site("2x RTX 4090")), session(), 2, 1, 8, 1.5)
    assert (found.usd_per_hour, found.source) == (1.5, "run file")


def test_what_was_planned_elsewhere_is_what_is_paid() -> None:
    found = price(planned(site("2x RTX 4090"), hardware__workers=2), session(), 2, 1, 8)
    assert found.usd_per_hour == pytest.approx(0.63)
    assert found.source == "plan: catalogue: 2 x RTX 4090, 0.29 to 0.34 on demand, the middle taken"


def test_a_cluster_on_this_machine_costs_what_the_machine_does() -> None:
    assert price(planned(None), session(Node("127.0.0.1", 0)), 1, 0, 8) == LAPTOP


def test_a_plan_for_the_submitters_machine_says_nothing_of_another() -> None:
    found = price(planned(None), session(), 2, 0, 3)
    assert (found.usd_per_hour, found.source) == (pytest.approx(0.24), "estimate: 6 cores at 0.04 on demand")


def test_without_a_plan_ray_names_the_cards() -> None:
    found = price(None, session(), 2, 1, 8)
    assert found.usd_per_hour == pytest.approx(0.63)
    assert "2 x RTX 4090" in found.source


@pytest.mark.parametrize(
    ("kinds", "named"), [(("H100", "L4"), "H100 and L4"), (("",), "the cluster's GPUs"), (("T4",), "T4")]
)
def test_cards_that_nobody_can_price_cost_nothing_and_say_so(kinds: tuple[str, ...], named: str) -> None:
    found = price(None, session(*(Node("203.0.113.9", 1, kind) for kind in kinds)), 1, 1, 8)
    assert found.usd_per_hour == 0
    assert found.source == f"no price known for {named}: set hardware.price_usd_per_hour"


def row(where: Site, **values: object) -> Row:
    return planned(where, **values).row


def test_a_pod_for_each_worker() -> None:
    found = machines_of(row(site("2x RTX 4090"), hardware__workers=2), HardwareSpec(workers=2))
    assert (found.workers, found.gpus_per_worker, found.gpu_label, found.cpus_per_worker) == (2, 1, "RTX 4090", 4)
    assert found.memory_bytes_per_worker >= 4 * GIB
    assert found.memory_bytes_per_worker % GIB == 0
    assert found.hours is not None


def test_a_device_map_is_one_pod_with_all_cards() -> None:
    made = row(site("2x RTX 4090"), hardware__workers=2).model_copy(update={"strategy": DeviceMap()})
    found = machines_of(made, HardwareSpec(workers=2, cpus_per_worker=12))
    assert (found.workers, found.gpus_per_worker, found.cpus_per_worker) == (1, 2, 12)


def test_pods_without_cards() -> None:
    asked = HardwareSpec(workers=3, accelerator="cpu", cpus_per_worker=2)
    found = machines_of(row(cores_site(asked, 2), hardware__workers=3, hardware__accelerator="cpu"), asked)
    assert found == Machines(3, 0, 2, found.memory_bytes_per_worker, None, found.hours)


def test_more_memory_is_asked_for_where_the_plan_counts_more() -> None:
    made = row(site("2x RTX 4090"), hardware__workers=2).model_copy(update={"host_bytes": 80 * GIB})
    assert machines_of(made, HardwareSpec(workers=2)).memory_bytes_per_worker == 60 * GIB
