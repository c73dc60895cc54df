"""What an hour of a run costs where its workers are on a cluster, and not, or not surely, on the driver's machine."""

from __future__ import annotations

from cluster.cards import CATALOGUE_DATE
from cluster.prices import Price, price_of_cores, price_of_gpus
from cluster.session import Session
from runspec.hardware import HardwareSpec
from training.placement import Placement
from training.planning.prediction import Prediction


def price_on_cluster(
    spec: HardwareSpec, prediction: Prediction | None, session: Session, placement: Placement, this_machine: Price
) -> Price:
    """The price of an attempt's workers an hour. Pure.

    The run file's own price wins; then what the run was planned with, where it was planned for other hardware than the
    machine it was submitted from; then what Ray says of its nodes. Only the workers are counted: a cluster may have
    other jobs.

    Args:
        prediction: kept with the run; None where none was made.
        session: the cluster, connected.
        this_machine: what the driver's machine would cost: right where all of the cluster is on it.
    """
    if spec.price_usd_per_hour is not None:
        return price_of_cores(0, spec.price_usd_per_hour)
    if prediction is not None and not prediction.row.here and prediction.row.usd_per_hour is not None:
        row = prediction.row
        return Price(usd_per_hour=prediction.row.usd_per_hour, source=f"plan: {row.price_source}", date=CATALOGUE_DATE)
    if session.here:
        return this_machine
    gpus = placement.workers * placement.gpus_per_worker
    if gpus == 0:
        return price_of_cores(placement.workers * placement.cpus_per_worker, None)
    kinds = sorted({node.gpu_kind for node in session.machines if node.gpus})
    return price_of_gpus(" and ".join(kinds), gpus)
