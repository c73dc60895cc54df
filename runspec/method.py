"""The training method: one variant for each file in training/methods/."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from runspec.data import CONVERSATIONS, PAIRS, VERDICTS, Layout
from runspec.strict import Strict


class Sft(Strict):
    """Supervised fine-tuning: cross-entropy on what the assistant says, and on the token that ends its turn."""

    layouts: ClassVar[tuple[Layout, ...]] = CONVERSATIONS

    kind: Literal["sft"] = "sft"
    packing: Literal["auto", "on", "off"] = "auto"
    """Several short examples in one sequence. `auto`: on where attention keeps the examples apart."""


class Dpo(Strict):
    """Direct preference optimisation (https://arxiv.org/abs/2305.18290): the chosen answer over the rejected one,
    against a reference: the adapter that the run starts from (`lora.start_from`), else the bare base model."""

    layouts: ClassVar[tuple[Layout, ...]] = PAIRS

    kind: Literal["dpo"] = "dpo"
    beta: float = Field(default=0.1, gt=0)
    """How strongly the model is held to its reference: small lets it move far."""


class Orpo(Strict):
    """Odds-ratio preference optimisation (https://arxiv.org/abs/2403.07691): the likelihood of the chosen answer and
    its odds over the rejected one in one loss; no reference model."""

    layouts: ClassVar[tuple[Layout, ...]] = PAIRS

    kind: Literal["orpo"] = "orpo"
    beta: float = Field(default=0.1, gt=0)
    """Weight of the odds-ratio term (the paper's lambda)."""


class Kto(Strict):
    """Kahneman-Tversky optimisation (https://arxiv.org/abs/2402.01306): single answers labelled good or bad, against
    the same reference as DPO's."""

    layouts: ClassVar[tuple[Layout, ...]] = VERDICTS

    kind: Literal["kto"] = "kto"
    beta: float = Field(default=0.1, gt=0)
    """How strongly the model is held to its reference: small lets it move far."""
    desirable_weight: float = Field(default=1.0, gt=0)
    """Weight of good answers. Weighted, good and bad should be within 1:1 and 4:3 of each other (the paper)."""
    undesirable_weight: float = Field(default=1.0, gt=0)
    """Weight of bad answers."""


Method = Annotated[Sft | Dpo | Orpo | Kto, Field(discriminator="kind", description="What is optimised.")]
