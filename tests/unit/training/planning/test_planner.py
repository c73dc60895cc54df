"""The planner: what fits, what cannot be, what is chosen, and fixes that hold what they promise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.planned_runs import SEVENTY, machine, shape, site, spec

from runspec.errors import DataError, HardwareError, ModelError
from runspec.load import LoadedRun
from runspec.overrides import apply
from runspec.run import RunSpec
from runspec.strategy import Ddp, DeviceMap, Zero2, Zero3
from training.data.example import Example
from training.planning.fixes import why_impossible
from training.planning.planner import best_of, choose, plan, rows_of
from training.planning.sites import this_site
from training.planning.speed import steps_of, time_of
from training.planning.workload import Workload, workload_of, workload_of_rows

SMALL, EIGHT = "HuggingFaceTB/SmolLM2-135M", "meta-llama/Llama-3.1-8B"
ROWS = Workload(1000, 300, 600, "1,000 rows")
FITTING: dict[str, Any] = {
    "data__max_length": 512,
    "training__batch_size_per_device": 1,
    "evaluation__quantised": True,
    "evaluation__batch_size": 1,
    "evaluation__few_shot": 0,
}


def gpus(count: int, **more: Any) -> dict[str, Any]:
    return {"hardware__workers": count, "hardware__accelerator": "gpu", **more}


def test_plan_covers_this_machine_and_the_catalogue() -> None:
    made = plan(spec(SMALL), shape(SMALL), machine(), ROWS)
    assert made.rows[0].here
    assert made.rows[0].hardware == "this machine, 16 CPU cores"
    labels = {row.hardware for row in made.rows}
    assert {"1x RTX 4090", "8x H100", "4x L4"} <= labels
    assert {row.strategy.kind for row in made.rows if row.hardware == "2x RTX 4090"} == {
        "ddp", "zero2", "zero3", "device_map",
    }  # fmt: skip
    for row in made.rows:
        assert row.fits == (not row.why_not)
        assert (row.usd is None) == (row.usd_per_hour is None)
    assert all(row.usd is None for row in made.rows if "H200" in row.hardware)


def test_seventy_billion_on_two_small_cards() -> None:
    """The crux: ZeRO-3 does not fit beside its gathered weights; layers over both cards do, and offloading does."""
    rows = {row.name: row for row in rows_of(spec(SEVENTY, **FITTING), shape(SEVENTY), site("2x RTX 4090"), ROWS)}
    assert {name for name, row in rows.items() if row.fits} == {"device_map", "zero3 + offload"}
    assert re.search(r"training needs 2\d\.\d GiB on a card of 24\.0 GiB", rows["zero3"].why_not)
    assert rows["device_map"].tight
    small_host = rows_of(spec(SEVENTY, **FITTING), shape(SEVENTY), site("2x RTX 4090", host_gib=64), ROWS)
    offload = next(row for row in small_host if row.name == "zero3 + offload")
    assert re.search(r"loading needs 8\d\.\d GiB of main memory, but the machine has 64\.0 GiB", offload.why_not)
    assert best_of(small_host).strategy == DeviceMap()


@pytest.mark.parametrize(
    ("model", "hardware", "values", "kind"),
    [
        (SMALL, machine(), {}, "ddp"),
        (SMALL, machine(), {"hardware__workers": 2}, "ddp"),
        (EIGHT, machine("NVIDIA GeForce RTX 4090"), FITTING | gpus(1), "ddp"),
        (EIGHT, machine(*["NVIDIA GeForce RTX 4090"] * 2), FITTING | gpus(2), "ddp"),
        (SEVENTY, machine(*["NVIDIA GeForce RTX 4090"] * 2), FITTING | gpus(2), "device_map"),
        (SEVENTY, machine(*["NVIDIA GeForce RTX 4090"] * 4, memory_gib=256), FITTING | gpus(4), "zero3"),
        (SEVENTY, machine("NVIDIA H100 80GB HBM3", gib=79.6), FITTING | gpus(1), "ddp"),
    ],
)
def test_auto_takes_the_fastest_that_fits(model: str, hardware: Any, values: dict[str, Any], kind: str) -> None:
    choice = choose(spec(model, **values), shape(model), hardware, ROWS)
    assert choice.strategy.kind == kind
    assert choice.prediction.fits
    assert choice.why


def test_without_a_workload_the_first_that_fits() -> None:
    hardware = machine(*["NVIDIA GeForce RTX 4090"] * 2)
    assert choose(spec(EIGHT, **FITTING, **gpus(2)), shape(EIGHT), hardware).strategy == Ddp()


def test_the_run_files_own_strategy_is_taken() -> None:
    hardware = machine(*["NVIDIA GeForce RTX 4090"] * 2)
    own = spec(EIGHT, **FITTING, **gpus(2), strategy={"kind": "zero2"})
    assert choose(own, shape(EIGHT), hardware, ROWS).strategy == Zero2()


@pytest.mark.parametrize(
    ("values", "hardware", "fragments", "fix"),
    [
        (gpus(4), machine("NVIDIA GeForce RTX 4090"), ["4 GPUs", "has 1"], "hardware.workers: 1"),
        (gpus(1), machine(), ["1 GPU ", "has none"], "hardware.accelerator: cpu"),
        (FITTING | gpus(2), machine(*["NVIDIA L4"] * 2, gib=16), ["No strategy fits", "16.0 GiB"], "larger GPUs"),
        (
            FITTING | gpus(2, strategy={"kind": "zero3"}),
            machine(*["NVIDIA GeForce RTX 4090"] * 2),
            ["training needs 2", "24.0 GiB"],
            "device_map",
        ),
        (
            FITTING | gpus(2, strategy={"kind": "zero3", "offload_parameters": True}),
            machine(*["NVIDIA GeForce RTX 4090"] * 2, memory_gib=64),
            ["loading needs 8", "64.0 GiB"],
            "device_map",
        ),
        ({}, machine(memory_gib=24), ["No strategy fits", "24.0 GiB"], "guitarfish plan"),
        (
            gpus(1, hardware__gpus_per_worker=2, strategy={"kind": "device_map", "reserve_gib": 30}),
            machine(*["NVIDIA GeForce RTX 4090"] * 2),
            ["reserve_gib is 30", "24.0 GiB"],
            "reserve_gib",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_both_values(
    values: dict[str, Any], hardware: Any, fragments: list[str], fix: str
) -> None:
    with pytest.raises(HardwareError) as raised:
        choose(spec(SEVENTY, **values), shape(SEVENTY), hardware, ROWS)
    for fragment in fragments:
        assert fragment in raised.value.what
    assert raised.value.where
    assert fix in raised.value.fix


@pytest.mark.parametrize(
    ("values", "strategy", "where", "fragments"),
    [
        ({"model__quantization": {"kind": "nf4", "storage": "uint8"}}, Zero3(), "2x L4", ["uint8", "zero3"]),
        ({"model__dtype": "float32"}, Zero3(), "2x L4", ["float32", "zero3"]),
    ],
)
def test_pairs_that_cannot_be(values: dict[str, Any], strategy: Any, where: str, fragments: list[str]) -> None:
    found = why_impossible(spec(EIGHT, **values), strategy, site(where))
    assert found is not None
    for fragment in fragments:
        assert fragment in found[0]
    assert found[1].startswith("Set ")


def test_offloading_on_cpu_cannot_be() -> None:
    run = spec(SMALL, strategy={"kind": "zero2", "offload_optimizer": True})
    with pytest.raises(HardwareError, match="no GPU"):
        choose(run, shape(SMALL), machine(), ROWS)


@pytest.mark.parametrize(
    ("model", "where", "values"),
    [
        (EIGHT, "1x RTX 4090", {}),
        (EIGHT, "1x L4", {"training__batch_size_per_device": 16, "evaluation__batch_size": 32}),
        (EIGHT, "1x RTX 3090", {"model__quantization": {"kind": "none"}, "training__gradient_checkpointing": False}),
        (SEVENTY, "4x L4", {}),
    ],
)
def test_a_fix_holds_what_it_promises(model: str, where: str, values: dict[str, Any]) -> None:
    """The settings it names are set, and it fits."""
    run, unknown = spec(model, **values), Workload(1000, 1024, None, "")
    made = plan(run, shape(model), machine(), unknown, sites=[site(where)])
    broken = [row for row in made.rows if not row.fits and row.fix]
    assert broken
    for row in broken:
        changed = _with_settings(run, row.fix)
        again = rows_of(changed, shape(model), site(where), unknown)
        assert next(each for each in again if each.strategy == row.strategy).fits, row.fix


def _with_settings(run: RunSpec, fix: str) -> RunSpec:
    import json

    from runspec.document import parse

    document = parse(run.model_dump_json(), "run.yaml")
    for setting in re.findall(r"[\w.]+=(?:\{.*?\}|[\w-]+)", fix):
        apply(document, setting)
    return RunSpec.model_validate_json(json.dumps(document.values), strict=True)


def test_steps() -> None:
    by_epochs = spec(SMALL, training={"epochs": 2, "batch_size_per_device": 4, "gradient_accumulation": 8})
    found = steps_of(by_epochs, Workload(1000, 50, None, ""), workers=2)
    assert found is not None
    assert (found.count, found.rows, found.tokens) == (32, 64, 100_000)  # 16 steps an epoch
    by_steps = spec(SMALL, training={"max_steps": 10, "batch_size_per_device": 1, "gradient_accumulation": 1})
    again = steps_of(by_steps, Workload(None, 50, None, ""), workers=1)
    assert again is not None
    assert (again.count, again.tokens) == (10, 500)
    assert steps_of(by_epochs, Workload(None, 50, None, ""), workers=1) is None


@pytest.mark.parametrize(
    ("model", "where", "strategy", "batch", "seconds"),
    [
        ("Llama-2-7b-hf", "2x RTX 4090", Ddp(), 8, 450),
        ("Llama-2-7b-hf", "2x RTX 3090", Ddp(), 8, 875),
        ("Llama-2-70b-hf", "2x RTX 4090", Zero3(offload_parameters=True), 2, 4399),
        ("Llama-2-70b-hf", "2x RTX 3090", Zero3(offload_parameters=True), 2, 11795),
        ("Llama-2-70b-hf", "4x H100", Zero3(), 8, 667),
    ],
)
def test_published_times(model: str, where: str, strategy: Any, batch: int, seconds: float) -> None:
    """AnswerDotAI/fsdp_qlora, benchmarks_03_2024.md: 1,024 sequences of 2,048 tokens, rank 64; within the range."""
    run = spec(
        f"meta-llama/{model}",
        training={"batch_size_per_device": batch, "gradient_accumulation": 1, "epochs": 1},
        lora__rank=64,
        serving__max_rank=64,
    )
    found = time_of(shape(f"meta-llama/{model}"), run, strategy, site(where), Workload(1024, 2048, 2048, ""))
    assert found is not None
    assert seconds / 1.4 < found.training_seconds < seconds * 1.4


def test_time_is_open_where_the_card_is_not_known() -> None:
    hardware = machine("NVIDIA GeForce RTX 9990", gib=48)
    found = choose(spec(EIGHT, **FITTING, **gpus(1)), shape(EIGHT), hardware, ROWS).prediction
    assert (found.hours, found.usd, found.fits) == (None, None, True)


def test_price_of_the_run_file_wins_here() -> None:
    run = spec(EIGHT, **FITTING, **gpus(1, hardware__price_usd_per_hour=2.0))
    row = choose(run, shape(EIGHT), machine("NVIDIA GeForce RTX 4090"), ROWS).prediction
    assert row.usd_per_hour == 2.0
    assert row.usd == pytest.approx(2 * (row.hours or 0))


def test_cpu_is_planned_where_the_run_file_says_so() -> None:
    run = spec(SMALL, hardware={"accelerator": "cpu"})
    assert this_site(run.hardware, machine("NVIDIA GeForce RTX 4090")).cards == 0


def test_rows_are_counted(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"text": "0123456789"}\n' * 100)
    found = workload_of(LoadedRun(spec(SMALL), tmp_path, tmp_path / "run.yaml"))
    assert found.rows == 90  # a tenth is held out
    assert 20 < found.row_tokens < 40
    assert workload_of(LoadedRun(spec(SMALL), tmp_path, tmp_path / "run.yaml"), rows=5).rows == 5
    (tmp_path / "data.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no row"):
        workload_of(LoadedRun(spec(SMALL), tmp_path, tmp_path / "run.yaml"))


def test_rows_that_were_read() -> None:
    said = ({"role": "user", "content": "x" * 100}, {"role": "assistant", "content": "y" * 60})
    longer = ({"role": "assistant", "content": "z" * 140},)
    found = workload_of_rows(spec(SMALL), [Example(messages=said), Example(messages=said, rejected=longer)])
    assert found.rows == 2
    assert found.row_tokens == pytest.approx((160 + 240) / 2 / 4 + 25)
    assert found.longest_tokens == 240 * 1.3 / 4 + 25
    assert workload_of_rows(spec(SMALL), [Example(text="x" * 100_000)]).row_tokens == 2048


def test_parquet_is_counted(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    write_table(pyarrow.table({"text": ["0123456789" * 10] * 50}), tmp_path / "data.parquet")
    run = spec(SMALL, data__source__path="data.parquet")
    assert workload_of(LoadedRun(run, tmp_path, tmp_path / "run.yaml")).rows == 45
    (tmp_path / "data.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="Parquet"):
        workload_of(LoadedRun(run, tmp_path, tmp_path / "run.yaml"))


def test_unknown_target() -> None:
    with pytest.raises(ModelError, match="query"):
        plan(spec(SMALL, lora__targets=["query"]), shape(SMALL), machine(), ROWS)
