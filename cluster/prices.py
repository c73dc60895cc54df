"""What an hour of the hardware costs: the run file's price, or a small catalogue that says where it has it from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime

from cluster.hardware import Gpu, Hardware
from runspec.strict import Strict

CATALOGUE_DATE = date(2026, 11, 23)
"""When the catalogue was last gone over."""
CPU_CORE_USD_PER_HOUR = 0.04
"""About what general-purpose virtual cores cost on demand at the large clouds, their memory included."""


class Price(Strict):
    """What all workers of a run cost an hour, and how that is known."""

    usd_per_hour: float
    source: str
    """Run file, catalogue with the range seen, or an estimate."""
    date: date
    """When the price was seen; today for the run file's."""


@dataclass(frozen=True)
class GpuOffer:
    """What one kind of GPU was offered for, on demand, by several clouds between March and November 2026.

    Attributes:
        pattern: of nvidia-smi's name.
        label: what people call it.
        low, high: USD per GPU-hour.
        min_memory_bytes: keeps the 80 GB A100 from the 40 GB one.
    """

    pattern: str
    label: str
    low: float
    high: float
    min_memory_bytes: float = 0

    def covers(self, gpu: Gpu) -> bool:
        """Whether this GPU is of the kind."""
        return bool(re.search(self.pattern, gpu.name)) and gpu.memory_bytes >= self.min_memory_bytes


CATALOGUE = (
    GpuOffer(r"\bH100\b", "H100", 2.69, 6.88, 70e9),
    GpuOffer(r"\bA100\b", "A100 80 GB", 1.19, 3.43, 70e9),
    GpuOffer(r"\bL4\b", "L4", 0.44, 0.44),
    GpuOffer(r"\bRTX 4090\b(?! (Laptop|D\b))", "RTX 4090", 0.29, 0.34),
    GpuOffer(r"\bRTX 3090\b(?! Ti)", "RTX 3090", 0.18, 0.18),
)


def price_of(hardware: Hardware, workers: int, override: float | None) -> Price:
    """The price of a run an hour.

    Args:
        hardware: of this machine; every worker is taken to have such a GPU.
        workers: each has one GPU, where there are GPUs; without, the machine's cores are paid, whatever the workers.
        override: the run file's `hardware.price_usd_per_hour`, for all workers together.
    """
    if override is not None:
        return Price(usd_per_hour=override, source="run file", date=datetime.now(UTC).date())
    if hardware.gpus:
        return _gpu_price(hardware.gpus[0], workers)
    source = f"estimate: {hardware.cores} cores at {CPU_CORE_USD_PER_HOUR} on demand"
    return Price(usd_per_hour=hardware.cores * CPU_CORE_USD_PER_HOUR, source=source, date=CATALOGUE_DATE)


def _gpu_price(gpu: Gpu, workers: int) -> Price:
    offer = next((offer for offer in CATALOGUE if offer.covers(gpu)), None)
    if offer is None:
        source = f"no price known for {gpu.name}: set hardware.price_usd_per_hour"
        return Price(usd_per_hour=0, source=source, date=CATALOGUE_DATE)
    middle = (offer.low + offer.high) / 2
    seen = f"{offer.low} to {offer.high}" if offer.low < offer.high else f"{offer.low}"
    source = f"catalogue: {workers} x {offer.label}, {seen} on demand, the middle taken"
    return Price(usd_per_hour=workers * middle, source=source, date=CATALOGUE_DATE)
