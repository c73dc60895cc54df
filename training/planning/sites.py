"""The hardware that a run is planned for: this machine, or a number of cards of the catalogue in one machine."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.billing.gpus import Card, card_of
from cluster.billing.prices import price_of, price_of_cores
from cluster.machine.hardware import Hardware
from runspec.errors import HardwareError
from runspec.hardware import HardwareSpec

GIB = 2**30


@dataclass(frozen=True)
class Site:
    """Hardware for one run.

    Attributes:
        label: `2x RTX 4090`, or what this machine has.
        cards: GPUs that the run uses; 0: it computes on the CPU.
        workers: Ray Train workers if there is no GPU; with GPUs the strategy decides.
        card_bytes: memory of the smallest of them.
        host_bytes: memory of the machine; None: not known.
        cores: CPU cores of the machine; None: not known.
        multiplies_bfloat16: the GPUs, or else the CPU, do so in hardware.
        card: the kind in the catalogue; None on CPU, and for a GPU that is not in the catalogue.
        usd_per_hour: of all of it; None: not known.
        price_source: where the price is from.
        here: it is this machine.
    """

    label: str
    cards: int
    workers: int
    card_bytes: int
    host_bytes: int | None
    cores: int | None
    multiplies_bfloat16: bool
    card: Card | None
    usd_per_hour: float | None
    price_source: str
    here: bool


def wanted_gpus(spec: HardwareSpec) -> int:
    """GPUs that a run file asks for, whether as workers or as GPUs of one worker."""
    return spec.workers * spec.gpus_per_worker


def computes_on_gpus(spec: HardwareSpec, hardware: Hardware) -> bool:
    return spec.accelerator == "gpu" or (spec.accelerator == "auto" and bool(hardware.gpus))


def this_site(spec: HardwareSpec, hardware: Hardware) -> Site:
    """This machine, as far as the run file uses it.

    Raises:
        HardwareError: the run file asks for more GPUs than there are.
    """
    if not computes_on_gpus(spec, hardware):
        without = hardware.model_copy(update={"gpus": ()})
        price = price_of(without, spec.workers, spec.price_usd_per_hour)
        return Site(
            label=f"this machine, {hardware.cores} CPU cores",
            cards=0,
            workers=spec.workers,
            card_bytes=0,
            host_bytes=hardware.memory_bytes,
            cores=hardware.cores,
            multiplies_bfloat16=without.multiplies_bfloat16,
            card=None,
            usd_per_hour=price.usd_per_hour,
            price_source=price.source,
            here=True,
        )
    wanted, there = wanted_gpus(spec), len(hardware.gpus)
    if wanted > there:
        raise HardwareError(
            f"hardware asks for {wanted} GPU{'s' if wanted > 1 else ''} (workers: {spec.workers}, gpus_per_worker: "
            f"{spec.gpus_per_worker}), "
            f"but this machine has {there or 'none'}.",
            where="hardware",
            fix=f"Set hardware.workers: {there}." if there else "Set hardware.accelerator: cpu.",
        )
    used = hardware.gpus[:wanted]
    smallest = min(used, key=lambda gpu: gpu.memory_bytes)
    price = price_of(hardware, wanted, spec.price_usd_per_hour)
    return Site(
        label=f"this machine, {wanted}x {smallest.name.removeprefix('NVIDIA ').removeprefix('GeForce ')}",
        cards=wanted,
        workers=wanted,
        card_bytes=smallest.memory_bytes,
        host_bytes=hardware.memory_bytes,
        cores=hardware.cores,
        multiplies_bfloat16=hardware.multiplies_bfloat16,
        card=card_of(smallest),
        usd_per_hour=price.usd_per_hour or (0.0 if spec.price_usd_per_hour == 0 else None),
        price_source=price.source,
        here=True,
    )


def card_site(count: int, card: Card, *, host_bytes: int | None = None) -> Site:
    """Cards of the catalogue in one machine, whose memory may not be known."""
    usd = card.usd_per_hour
    return Site(
        label=f"{count}x {card.label}",
        cards=count,
        workers=count,
        card_bytes=card.memory_bytes,
        host_bytes=host_bytes,
        cores=None,
        multiplies_bfloat16=card.capability >= 8,
        card=card,
        usd_per_hour=None if usd is None else count * usd,
        price_source=f"catalogue: {count} x {card.price_source}",
        here=False,
    )


def cores_site(spec: HardwareSpec, cores_each: int) -> Site:
    """Workers on CPU cores of machines that are not known yet: their memory is not known, and they are assumed not to
    multiply bfloat16 in hardware.

    Args:
        cores_each: CPU cores of each worker.
    """
    cores = spec.workers * cores_each
    price = price_of_cores(cores, spec.price_usd_per_hour)
    return Site(
        label=f"{spec.workers} CPU worker{'s' if spec.workers > 1 else ''}, {cores_each} cores each",
        cards=0,
        workers=spec.workers,
        card_bytes=0,
        host_bytes=None,
        cores=cores,
        multiplies_bfloat16=False,
        card=None,
        usd_per_hour=price.usd_per_hour,
        price_source=price.source,
        here=False,
    )
