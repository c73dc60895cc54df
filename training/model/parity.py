"""Parity of two forms of one model: how far the merged weights' logits are from those of base and adapter."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch

from runspec.strict import Strict
from training.evaluation.batches import evaluating, forward

TAIL = 48
"""Tokens at the end of each text, where the answers are, whose predictions are compared."""
LEAST_AGREEMENT = 0.9
"""Least share of positions where both forms have the same likeliest token. Computing in bfloat16 (8 bits of precision)
flips near ties: 3 in 100 positions of the smart-home example."""
MOST_KL = 0.02
"""Most mean KL divergence, in nats per token. The smart-home example, whose adapter moves its base by 1.8, has 0.001 in
bfloat16 and 0.00001 in float16."""
MOST_SHARE = 0.5
"""Most of the adapter's own effect that may be lost: at one half the merged model is as near to the base as to the
tuned one."""


class Parity(Strict):
    """How far apart two forms of a tuned model are, on the last tokens of some texts."""

    texts: int
    positions: int
    """Tokens whose predictions were compared."""
    max_abs_logit: float
    mean_abs_logit: float
    mean_kl: float
    """KL(base + adapter || merged), in nats per token."""
    max_kl: float
    """The same at the worst position."""
    agreement: float
    """Share of positions with the same likeliest token."""
    adapter_kl: float
    """KL(base + adapter || base), in nats per token: what the adapter does, to compare `mean_kl` with."""

    @property
    def problems(self) -> list[str]:
        """Why the merged model must not be used; empty if it may."""
        found = []
        if not self.mean_kl <= MOST_KL:  # also where it is not a number
            found.append(f"mean KL {self.mean_kl:.4f} nats per token is more than {MOST_KL}")
        if not self.agreement >= LEAST_AGREEMENT:
            found.append(
                f"the likeliest token agrees at {self.agreement:.1%} of the positions, less than {LEAST_AGREEMENT:.0%}"
            )
        if self.mean_kl > MOST_SHARE * self.adapter_kl:
            found.append(f"KL {self.mean_kl:.2g} is more than half of what the adapter does ({self.adapter_kl:.2g})")
        return found


def tails(model: Any, texts: Sequence[Sequence[int]], *, adapter: bool = True) -> list[torch.Tensor]:
    """Logits that predict the last tokens of each text, in float32 on the host: [min(T - 1, TAIL), V] per text.

    Args:
        texts: token ids, at least two each.
        adapter: False switches a PEFT model's adapter off.
    """
    found = []
    with evaluating(model), nullcontext() if adapter else model.disable_adapter():
        for text in texts:
            ids = torch.tensor([list(text[:-1])], device=model.device)
            logits_TV = forward(model, keep=min(TAIL, len(text) - 1), input_ids=ids)[0]
            found.append(logits_TV.float().cpu())
    return found


def compare(reference: Sequence[torch.Tensor], merged: Sequence[torch.Tensor], base: Sequence[torch.Tensor]) -> Parity:
    """Compare what `tails` gives for base with adapter, merged weights and base alone on the same texts."""
    rows = [_compare(*three) for three in zip(reference, merged, base, strict=True)]
    positions = sum(len(row) for row in rows)
    total = [sum(column) for column in zip(*(cells for row in rows for cells in row), strict=True)]
    return Parity(
        texts=len(rows),
        positions=positions,
        max_abs_logit=max(cells[0] for row in rows for cells in row),
        mean_abs_logit=total[1] / positions,
        mean_kl=total[2] / positions,
        max_kl=max(cells[2] for row in rows for cells in row),
        agreement=total[3] / positions,
        adapter_kl=total[4] / positions,
    )


def _compare(reference: torch.Tensor, merged: torch.Tensor, base: torch.Tensor) -> list[tuple[float, ...]]:
    """For each position: largest and mean logit difference, KL to merged, same likeliest token, KL to base."""
    apart = (reference - merged).abs()
    columns = (
        apart.amax(-1),
        apart.mean(-1),
        _kl(reference, merged),
        (reference.argmax(-1) == merged.argmax(-1)).float(),
        _kl(reference, base),
    )
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _kl(left_TV: torch.Tensor, right_TV: torch.Tensor) -> torch.Tensor:
    """KL(left || right) at each position [T], in nats."""
    left, right = left_TV.double().log_softmax(-1), right_TV.double().log_softmax(-1)
    return (left.exp() * (left - right)).sum(-1)
