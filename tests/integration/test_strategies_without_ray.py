"""DeepSpeed on two gloo workers without Ray, and a model laid over the one device that is here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.deepspeed_child import train
from support.ports import free_port
from support.tiny_model import write_rows, write_run_file, write_tiny_model
from support.tiny_run import local_job

from cluster.store.storage import open_store
from runspec.load import load_run, resolved
from runspec.strategy import DeviceMap
from training.curation.curated import store_curated
from training.run.preparation import prepare_data
from training.run.run_folder import TrainingFolder
from training.worker.job import LocalContext
from training.worker.worker import train_on_worker

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]


def write_run(folder: Path, strategy: str) -> Path:
    """A run of the tiny model whose data is curated."""
    write_tiny_model(folder / "model")
    write_rows(folder / "rows.jsonl")
    run_file = write_run_file(
        folder,
        strategy={"kind": strategy},
        hardware={"workers": 1 if strategy == "device_map" else 2, "accelerator": "cpu"},
        model={"source": {"kind": "folder", "path": "model"}, "dtype": "bfloat16"},
        training={"batch_size_per_device": 2, "gradient_accumulation": 1, "max_steps": 2, "holdout_loss_rows": 0},
    )
    spec = resolved(load_run(run_file))
    store_curated(TrainingFolder(open_store(spec.store), "shared"), prepare_data(spec, folder))
    return run_file


def on_two_workers(folder: Path, strategy: str) -> list[dict[str, Any]]:
    """Train on two processes; what each found."""
    import torch.multiprocessing

    run_file = write_run(folder, strategy)
    torch.multiprocessing.spawn(train, args=(str(run_file), free_port(), str(folder)), nprocs=2)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def adapter_types(folder: Path) -> set[str]:
    """The types of the weights in the last checkpoint of the first worker."""
    from safetensors.torch import load_file

    (checkpoint,) = folder.glob("checkpoint-*")
    return {str(weight.dtype) for weight in load_file(checkpoint / "adapter_model.safetensors").values()}


def test_the_engine_of_zero3_finds_half_of_each_parameter(tmp_path: Path) -> None:
    """It would move a model that is not shared out already to each card whole."""
    for found in on_two_workers(tmp_path, "zero3"):
        assert found["shared"]
        assert found["share"] == pytest.approx(0.5, abs=0.01)


def test_zero2_trains_and_saves_the_adapter_in_float32(tmp_path: Path) -> None:
    first, second = on_two_workers(tmp_path, "zero2")
    assert not first["shared"]
    assert len(first["losses"]) == 2
    assert all(5 < loss < 15 for loss in first["losses"])
    assert second["losses"] == []  # the first worker tells
    assert adapter_types(tmp_path / "checkpoints-0") == {"torch.float32"}


def test_device_map_on_the_one_device_that_is_here(tmp_path: Path) -> None:
    spec = resolved(load_run(write_run(tmp_path, "device_map")))
    context = LocalContext(tmp_path / "checkpoints-0")
    train_on_worker(local_job("shared", spec, DeviceMap()), context)
    assert [metrics["step"] for metrics, _ in context.saved] == [2]
    (weights,) = [event.values for event in context.events if event.kind == "weights"]
    assert weights["held_bytes"] == weights["whole_bytes"] > 0
    assert adapter_types(tmp_path / "checkpoints-0") == {"torch.float32"}
