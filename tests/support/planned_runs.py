"""Run files and shapes that the planning tests share."""

from __future__ import annotations

import json
from typing import Any

from cluster.billing.gpus import parse_cards
from cluster.machine.hardware import Gpu, Hardware
from runspec.run import RunSpec
from training.planning.shape_sources import known_models
from training.planning.shapes import ModelShape
from training.planning.sites import GIB, Site, card_site

SEVENTY = "meta-llama/Llama-3.3-70B-Instruct"


def shape(name: str) -> ModelShape:
    """A model of the catalogue."""
    return known_models()[name]


def spec(model: str, **values: Any) -> RunSpec:
    """A run file with `training__epochs=2` for training.epochs."""
    tree: dict[str, Any] = {
        "name": "planned",
        "model": {"source": {"kind": "hub", "id": model}},
        "data": {"source": {"kind": "file", "path": "data.jsonl"}},
    }
    for key, value in values.items():
        *path, last = key.split("__")
        section = tree
        for name in path:
            section = section.setdefault(name, {})
        section[last] = value
    return RunSpec.model_validate_json(json.dumps(tree), strict=True)


def site(text: str, host_gib: int | None = None) -> Site:
    """`2x RTX 4090`."""
    count, card = parse_cards(text)
    return card_site(count, card, host_bytes=host_gib * GIB if host_gib else None)


def machine(*gpus: str, gib: float = 24, cores: int = 16, memory_gib: int = 128, bfloat16: bool = True) -> Hardware:
    """A machine with these GPUs."""
    return Hardware(
        cpu="a CPU",
        cores=cores,
        memory_bytes=memory_gib * GIB,
        machine_cores=cores,
        machine_memory_bytes=memory_gib * GIB,
        instructions=("avx2", "avx512", "avx512_bf16") if bfloat16 else ("avx2",),
        gpus=tuple(Gpu(name=name, memory_bytes=int(gib * GIB), compute_capability=8.9) for name in gpus),
    )
