"""How much DeepSpeed gathers and reduces at a time: what a run is configured with, and what a plan counts."""

from __future__ import annotations

from typing import Any

REDUCE = 50_000_000
"""Gradients in one buffer. DeepSpeed's 5e8 would take 1 GB of a card, twice that under ZeRO-2, where an adapter has a
few hundred million gradients in all."""
PREFETCH = 50_000_000
"""Parameters that ZeRO-3 gathers ahead (DeepSpeed's default)."""
LIVE = 1_000_000_000
"""Parameters that ZeRO-3 keeps gathered at most, a single larger one apart (DeepSpeed's default)."""


def bucket_settings(stage: int) -> dict[str, Any]:
    """The `zero_optimization` keys of DeepSpeed's configuration that say so."""
    shared = {"reduce_bucket_size": REDUCE, "allgather_bucket_size": REDUCE}
    if stage < 3:
        return shared
    return {
        "reduce_bucket_size": REDUCE,
        "stage3_prefetch_bucket_size": PREFETCH,
        "stage3_max_live_parameters": LIVE,
        "stage3_max_reuse_distance": LIVE,
    }
