"""Dollars: whether another trial may start, and what one costs an hour. Decided from numbers alone."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.billing.prices import Price
from training.strategies.placement import Placement


def may_start(spent_usd: float, budget_usd: float | None, trials_usd: Sequence[float]) -> bool:
    """Whether what is left could carry one more trial as far as the cheapest one came.

    Args:
        spent_usd: what all attempts cost until now.
        trials_usd: what each trial that has ended cost; a stopped or failed one is as good a yardstick as a whole one.
    """
    return budget_usd is None or spent_usd + min(trials_usd, default=0.0) < budget_usd


def price_of_trial(price: Price, slots: Placement) -> Price:
    """What one trial costs an hour.

    On GPUs each trial has its own, and `price` is that of one worker. Without, the price is the machine's, which the
    trials that run at the same time share.
    """
    if slots.gpus_per_worker or slots.workers == 1:
        return price
    return price.shared(slots.workers, "trials at a time")
