"""What an hour of the hardware costs: the run file's price, or a small catalogue that says where it has it from."""

from __future__ import annotations

from datetime import UTC, date, datetime

from cluster.cards import CATALOGUE_DATE, Card, card_called, card_of
from cluster.hardware import Hardware
from runspec.strict import Strict

CPU_CORE_USD_PER_HOUR = 0.04
"""About what general-purpose virtual cores cost on demand at the large clouds, their memory included."""


class Price(Strict):
    """What all workers of a run cost an hour, and how that is known."""

    usd_per_hour: float
    source: str
    """Run file, catalogue with the range seen, or an estimate."""
    date: date
    """When the price was seen; today for the run file's."""


def price_of(hardware: Hardware, workers: int, override: float | None) -> Price:
    """The price of a run an hour.

    Args:
        hardware: of this machine; every worker is taken to have such a GPU.
        workers: GPUs of the run, where there are any; without, the machine's cores are paid, whatever the workers.
        override: the run file's `hardware.price_usd_per_hour`, for all workers together.
    """
    if override is None and hardware.gpus:
        return _gpu_price(card_of(hardware.gpus[0]), hardware.gpus[0].name, workers)
    return price_of_cores(hardware.cores, override)


def price_of_cores(cores: int, override: float | None) -> Price:
    """The price of so many CPU cores an hour, or the run file's own."""
    if override is not None:
        return Price(usd_per_hour=override, source="run file", date=datetime.now(UTC).date())
    source = f"estimate: {cores} cores at {CPU_CORE_USD_PER_HOUR} on demand"
    return Price(usd_per_hour=cores * CPU_CORE_USD_PER_HOUR, source=source, date=CATALOGUE_DATE)


def price_of_gpus(kind: str, count: int) -> Price:
    """The price of GPUs an hour, of the kind that Ray says a machine has (`accelerator_type`); empty: it says none."""
    return _gpu_price(card_called(kind), kind or "the cluster's GPUs", count)


def _gpu_price(card: Card | None, name: str, workers: int) -> Price:
    if card is None or card.usd_per_hour is None:
        source = f"no price known for {name}: set hardware.price_usd_per_hour"
        return Price(usd_per_hour=0, source=source, date=CATALOGUE_DATE)
    source = f"catalogue: {workers} x {card.price_source}"
    return Price(usd_per_hour=workers * card.usd_per_hour, source=source, date=CATALOGUE_DATE)
