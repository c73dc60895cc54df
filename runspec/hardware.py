"""The machines of a run, and what they cost per hour."""

from typing import Literal

from pydantic import Field

from runspec.strict import Strict


class HardwareSpec(Strict):
    """How many workers, on what, at which price."""

    workers: int = Field(default=1, ge=1)
    """Ray Train workers: one for each GPU, or one for each share of the CPU cores."""
    gpus_per_worker: int = Field(default=1, ge=1)
    """GPUs of each worker: more than one only with strategy device_map, whose one worker owns them all."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """`auto` takes the GPUs where there are any."""
    cpus_per_worker: int | None = Field(default=None, ge=1)
    """CPU cores of each worker. Null: the cores of the cluster shared out, 8 at most."""
    price_usd_per_hour: float | None = Field(default=None, ge=0)
    """What all workers together cost per hour. Null: looked up in the price catalogue."""
