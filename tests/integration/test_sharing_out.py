"""ZeRO-3 shares a four-bit model out before DeepSpeed's engine is built, which would move it to each card whole."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from sharing_child import train
from tiny_model import write_rows, write_run_file, write_tiny_model

from cluster.storage import open_store
from runspec.load import load_run, resolved
from training.curated import store_curated
from training.preparation import prepare_data


@pytest.mark.timeout(400)
def test_the_engine_finds_half_of_each_parameter(tmp_path: Path) -> None:
    import torch.multiprocessing

    write_tiny_model(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl")
    run_file = write_run_file(
        tmp_path,
        strategy={"kind": "zero3"},
        model={"source": {"kind": "folder", "path": "model"}, "dtype": "bfloat16"},
        training={"batch_size_per_device": 2, "gradient_accumulation": 1, "max_steps": 2, "holdout_loss_rows": 0},
    )
    spec = resolved(load_run(run_file))
    store_curated(open_store(spec.store), "shared", prepare_data(spec, tmp_path))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(train, args=(str(run_file), port, str(tmp_path)), nprocs=2)
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found["shared"]
        assert found["share"] == pytest.approx(0.5, abs=0.01)
    assert len(json.loads((tmp_path / "0.json").read_text())["losses"]) == 2
