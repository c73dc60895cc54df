"""Which adapters this server can serve: read off the card and adapter_config.json, before any weight is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from runspec.errors import ServingError
from serving.plan import ServePlan

if TYPE_CHECKING:
    from registry.card import AdapterCard


def check_card(card: AdapterCard, plan: ServePlan) -> None:
    """Refuse an adapter of another base model, or of a higher rank than the server was started for.

    Raises:
        ServingError: with both values.
    """
    name = f"{card.adapter}@{card.version}"
    if card.base_digest != plan.base_digest:
        raise ServingError(
            f"{name} was trained on {card.base_model} ({_short(card.base_digest)}), and this server holds "
            f"{plan.base_name} ({_short(plan.base_digest)}).",
            where=f"adapter {name}",
            fix="Serve the base model that it was trained on.",
        )
    if card.rank > plan.spec.max_rank:
        raise ServingError(
            f"{name} has rank {card.rank}, and the server takes {plan.spec.max_rank} at most.",
            where=f"adapter {name}, serving.max_rank: {plan.spec.max_rank}",
            fix="Raise serving.max_rank and start the server again.",
        )


def check_folder(name: str, folder: Path, plan: ServePlan) -> None:
    """Refuse what vLLM rejects: DoRA, trained biases, whole modules saved beside the matrices, too high a rank.

    Args:
        name: `NAME@VERSION`.
        folder: adapter_config.json and adapter_model.safetensors.

    Raises:
        ServingError: with the setting and its value.
    """
    config = json.loads((folder / "adapter_config.json").read_text())
    ranks = [config.get("r", 0), *config.get("rank_pattern", {}).values()]
    lacks = {
        "use_dora: true": bool(config.get("use_dora")),
        f"bias: {config.get('bias')}": config.get("bias", "none") != "none",
        f"modules_to_save: {config.get('modules_to_save')}": bool(config.get("modules_to_save")),
        f"rank {max(ranks)} above serving.max_rank {plan.spec.max_rank}": max(ranks) > plan.spec.max_rank,
    }
    problems = [problem for problem, present in lacks.items() if present]
    if problems:
        raise ServingError(
            f"{name} cannot be served by vLLM: {'; '.join(problems)}.",
            where=f"{folder / 'adapter_config.json'}",
            fix="Train and publish a version without it.",
        )


def _short(digest: str) -> str:
    kind, colon, value = digest.rpartition(":")
    return f"{kind}{colon}{value[:12]}"
