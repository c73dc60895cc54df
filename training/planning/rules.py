"""Pairs of settings that cannot be, whatever the memory: each is refused with both values and the fix."""

from __future__ import annotations

from runspec.model import Nf4
from runspec.run import RunSpec
from runspec.strategy import Concrete, DeviceMap, Zero2, Zero3
from training.planning.sites import Site


def why_impossible(spec: RunSpec, strategy: Concrete, site: Site) -> tuple[str, str] | None:
    """What is wrong with a strategy for this run file and hardware, and the fix; None where nothing is.

    The run file's own checks have refused what it says itself; `auto` leaves these to be seen here.
    """
    quantization = spec.model.quantization
    if isinstance(strategy, Zero3) and isinstance(quantization, Nf4):
        if quantization.storage == "uint8":
            return (
                "zero3 shares out floating types, but model.quantization.storage is uint8.",
                "Set model.quantization.storage: auto.",
            )
        if spec.model.dtype == "float32":
            return (
                "zero3 keeps NF4 weights as bfloat16, but model.dtype is float32.",
                "Set model.dtype: auto, or model.quantization: {kind: none}.",
            )
    if isinstance(strategy, Zero3) and site.cards and not site.multiplies_bfloat16:
        return (
            f"zero3 computes in bfloat16, which {site.label} has no units for.",
            "Take GPUs of compute capability 8.0 (Ampere) or newer.",
        )
    if isinstance(strategy, DeviceMap) and site.cards and strategy.reserve_gib * 2**30 >= site.card_bytes:
        return (
            f"strategy.reserve_gib is {strategy.reserve_gib:g}, but a card has {site.card_bytes / 2**30:.1f} GiB.",
            "Lower strategy.reserve_gib.",
        )
    return _offloading(strategy, site)


def _offloading(strategy: Concrete, site: Site) -> tuple[str, str] | None:
    offloads = isinstance(strategy, Zero2 | Zero3) and (
        strategy.offload_optimizer or (isinstance(strategy, Zero3) and strategy.offload_parameters)
    )
    if offloads and site.cards == 0:
        return (
            f"{strategy.kind} offloads from cards to main memory, but {site.label} has no card.",
            "Set strategy.offload_optimizer and strategy.offload_parameters to false.",
        )
    return None
