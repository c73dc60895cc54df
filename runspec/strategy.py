"""The strategy: how a model and its training are spread over GPUs; a variant for each file in training/strategies/."""

from typing import Annotated, Literal

from pydantic import Field

from runspec.strict import Strict


class Auto(Strict):
    """The planner takes the cheapest strategy that fits the cards: ddp, then zero2, zero3, device_map."""

    kind: Literal["auto"] = "auto"


class Ddp(Strict):
    """Every worker holds the whole model; gradients are averaged (torch DistributedDataParallel)."""

    kind: Literal["ddp"] = "ddp"


class Zero2(Strict):
    """DeepSpeed ZeRO stage 2 (https://arxiv.org/abs/1910.02054): gradients and optimizer states are shared out."""

    kind: Literal["zero2"] = "zero2"
    offload_optimizer: bool = False
    """Keep the optimizer's states in host memory."""


class Zero3(Strict):
    """DeepSpeed ZeRO stage 3: the weights are shared out too, and gathered layer by layer as they are needed."""

    kind: Literal["zero3"] = "zero3"
    offload_optimizer: bool = False
    """Keep the optimizer's states in host memory."""
    offload_parameters: bool = False
    """Keep the weights in host memory, and bring each layer to the card when it is needed."""


class DeviceMap(Strict):
    """One worker owns several GPUs; whole layers are placed on them in order, and a batch passes through them."""

    kind: Literal["device_map"] = "device_map"
    reserve_gib: float = Field(default=2.0, ge=0)
    """Memory of each GPU that is kept free of weights, for activations and the optimizer, in GiB."""


Concrete = Ddp | Zero2 | Zero3 | DeviceMap
"""A strategy that can be carried out: `auto` is one of these once it was planned."""
Strategy = Annotated[Auto | Ddp | Zero2 | Zero3 | DeviceMap, Field(discriminator="kind")]
