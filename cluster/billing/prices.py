"""What an hour of a run costs: the run file's price, or the catalogue's, with its source and date."""

from __future__ import annotations

from datetime import UTC, date, datetime

from cluster.billing.cards import CATALOGUE_DATE, Card, card_called, card_of
from cluster.machine.hardware import Hardware
from cluster.machine.session import Session
from runspec.strict import Strict

CPU_CORE_USD_PER_HOUR = 0.04
"""Roughly what general-purpose virtual cores cost on demand at the large clouds, memory included."""


class Price(Strict):
    """What all workers of a run together cost an hour."""

    usd_per_hour: float
    source: str
    """The run file, the catalogue with the range seen, or an estimate."""
    date: date
    """When the price was seen; today for the run file's."""

    def shared(self, number: int, what: str) -> Price:
        """The price of one of several (`replicas`, `trials at a time`) that share the hardware."""
        if number == 1:
            return self
        source = f"{self.source}, shared by {number} {what}"
        return Price(usd_per_hour=self.usd_per_hour / number, source=source, date=self.date)


def price_of(hardware: Hardware, workers: int, override: float | None) -> Price:
    """The price of a run on machines like this one.

    Args:
        hardware: of this machine; every worker is assumed to have its first GPU.
        workers: GPUs of the run; without GPUs all cores of the machine are paid for, however many workers there are.
        override: the run file's `hardware.price_usd_per_hour`, for all workers together.
    """
    if override is None and hardware.gpus:
        return _gpu_price(card_of(hardware.gpus[0]), hardware.gpus[0].name, workers)
    return price_of_cores(hardware.cores, override)


def price_on_cluster(
    override: float | None,
    planned: Price | None,
    session: Session,
    *,
    workers: int,
    gpus_per_worker: int,
    cpus_per_worker: int,
    this_machine: Price,
) -> Price:
    """The price of a run whose workers are on a cluster. Pure.

    The run file's own price wins, then the plan's, then what Ray reports of its nodes. Only the workers are counted: a
    cluster may have other jobs.

    Args:
        override: the run file's `hardware.price_usd_per_hour`.
        planned: of the plan, where it was made for other hardware than the machine the run was submitted from.
        this_machine: what the driver's machine would cost: right where all of the cluster is on it.
    """
    if override is not None:
        return price_of_cores(0, override)
    if planned is not None:
        return planned
    if session.here:
        return this_machine
    if gpus_per_worker == 0:
        return price_of_cores(workers * cpus_per_worker, None)
    kinds = sorted({node.gpu_kind for node in session.machines if node.gpus})
    return price_of_gpus(" and ".join(kinds), workers * gpus_per_worker)


def price_of_cores(cores: int, override: float | None) -> Price:
    if override is not None:
        return Price(usd_per_hour=override, source="run file", date=datetime.now(UTC).date())
    source = f"estimate: {cores} cores at {CPU_CORE_USD_PER_HOUR} on demand"
    return Price(usd_per_hour=cores * CPU_CORE_USD_PER_HOUR, source=source, date=CATALOGUE_DATE)


def price_of_gpus(kind: str, count: int) -> Price:
    """Of GPUs by the name that Ray gives them (`accelerator_type`); it may be empty."""
    return _gpu_price(card_called(kind), kind or "the cluster's GPUs", count)


def _gpu_price(card: Card | None, name: str, count: int) -> Price:
    if card is None or card.usd_per_hour is None:
        source = f"no price known for {name}: set hardware.price_usd_per_hour"
        return Price(usd_per_hour=0, source=source, date=CATALOGUE_DATE)
    source = f"catalogue: {count} x {card.price_source}"
    return Price(usd_per_hour=count * card.usd_per_hour, source=source, date=CATALOGUE_DATE)
