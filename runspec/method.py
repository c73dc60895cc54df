"""The training method: one variant for each file in training/methods/."""

from typing import Annotated, Literal

from pydantic import Field

from runspec.strict import Strict


class Sft(Strict):
    """Supervised fine-tuning: cross-entropy on what the assistant says, and on the token that ends its turn."""

    kind: Literal["sft"] = "sft"
    packing: Literal["auto", "on", "off"] = "auto"
    """Several short examples in one sequence. `auto`: on where attention keeps the examples apart."""


Method = Annotated[Sft, Field(description="What is optimised.")]
