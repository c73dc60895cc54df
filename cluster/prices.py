"""What an hour of hardware costs: the run file's price, or a small catalogue with source and date."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.hardware import Hardware
from runspec.strict import Strict


class Price(Strict):
    """A price and where it comes from."""

    usd_per_hour: float
    source: str
    date: str
    """When the price was seen, YYYY-MM-DD or YYYY-MM; empty for the user's own."""


@dataclass(frozen=True)
class _Listed:
    """Lowest on-demand USD per GPU-hour seen for cards whose name contains `card`."""

    card: str
    usd: float
    date: str


CATALOGUE = (
    _Listed("H100", 2.69, "2026-11"),
    _Listed("A100", 1.19, "2026-11"),
    _Listed("L4", 0.44, "2026-11"),
    _Listed("RTX 4090", 0.34, "2026-11"),
    _Listed("RTX 3090", 0.18, "2026-11"),
)
"""Clouds differ several times over for one card: these say the order of magnitude, the run file's price says more."""
CPU_CORE_USD = 0.04
"""An on-demand cloud vCPU with its memory, an estimate."""


def price_of(hardware: Hardware, workers: int, override: float | None) -> Price:
    """The price of a run's machines.

    Args:
        hardware: of one machine; a GPU a worker where it has any, else the machine's cores.
        workers: of the run.
        override: the run file's `hardware.price_usd_per_hour`, for all workers together.
    """
    if override is not None:
        return Price(usd_per_hour=override, source="the run file", date="")
    if not hardware.gpus:
        usd = CPU_CORE_USD * hardware.cores
        return Price(usd_per_hour=usd, source=f"estimate, ${CPU_CORE_USD:.2f} a core-hour", date="2026-11")
    name = hardware.gpus[0].name
    listed = next((one for one in CATALOGUE if _same_card(one.card, name)), None)
    if listed is None:
        return Price(usd_per_hour=0.0, source=f"unknown for {name}: set hardware.price_usd_per_hour", date="")
    return Price(
        usd_per_hour=listed.usd * workers, source=f"catalogue, {listed.card} on demand, lowest seen", date=listed.date
    )


def _same_card(card: str, name: str) -> bool:
    """Whole words, so that an L40 is not taken for an L4; `H100` also stands for `H100-SXM5`."""
    words = name.replace("-", " ").split()
    return all(word in words for word in card.split())
