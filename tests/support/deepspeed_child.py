"""One of two gloo workers that train with DeepSpeed without Ray: looks at the weights before the engine is built."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def train(rank: int, run_file: str, port: int, out: str) -> None:
    """Train two steps; writes to OUT/RANK.json which share of the parameters the worker held before the engine was."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    import deepspeed
    import torch
    from support.tiny_run import local_job

    from runspec.load import load_run, resolved
    from runspec.strategy import Auto
    from training.worker.job import LocalContext
    from training.worker.worker import train_on_worker

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    found: dict[str, Any] = {}
    build = deepspeed.initialize

    def look(*args: Any, **kwargs: Any) -> Any:
        parameters = list(kwargs["model"].parameters())
        found["shared"] = all(hasattr(each, "ds_id") for each in parameters)
        if found["shared"]:
            found["share"] = sum(each.ds_tensor.numel() for each in parameters) / sum(e.ds_numel for e in parameters)
        return build(*args, **kwargs)

    deepspeed.initialize = look
    context = LocalContext(Path(out) / f"checkpoints-{rank}", rank=rank, world_size=2)
    spec = resolved(load_run(run_file))
    assert not isinstance(spec.strategy, Auto)
    train_on_worker(local_job("shared", spec, spec.strategy), context)
    found["losses"] = [event.values["loss"] for event in context.events if event.kind == "step"]
    (Path(out) / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.barrier()
