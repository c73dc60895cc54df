"""The prediction that is stored with a run, and compared with what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.planned_runs import machine, site, spec

from runspec.errors import HardwareError
from runspec.strategy import Ddp, Zero2, Zero3
from training.data.example import Example
from training.planning.prediction import beside, predict, strategy_of
from training.run.results import TrainingResult

SMALL = "HuggingFaceTB/SmolLM2-135M"
RESULT = TrainingResult(
    steps=10, tokens=100, best_step=10, best_holdout_loss=None, best_checkpoint="a", last_checkpoint="a"
)


@pytest.fixture
def data(tmp_path: Path) -> str:
    file = tmp_path / "data.jsonl"
    file.write_text((json.dumps({"text": "word " * 50}) + "\n") * 40)
    return str(file)


def test_auto_is_what_was_planned_for_every_attempt(data: str) -> None:
    asked = spec(SMALL, data__source__path=data)
    prediction, why_not = predict(asked, machine(), rows=36)
    assert prediction is not None
    assert prediction.row.here
    assert not why_not
    assert strategy_of(asked, None, machine()) == Ddp()
    row = prediction.row.model_copy(update={"strategy": Zero2()})
    planned = prediction.model_copy(update={"row": row})
    assert strategy_of(asked, planned, machine()) == Zero2()
    assert strategy_of(asked.model_copy(update={"strategy": Zero3()}), planned, machine()) == Zero3()


def test_auto_without_a_shape_is_ddp(tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert strategy_of(spec("nobody/knows-it", data__source__path=data), None, machine()) == Ddp()


def test_a_run_is_planned_for_other_hardware_than_this_machine(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """RAY_ADDRESS says nothing of where a run goes that is submitted with its hardware named."""
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.3:6379")
    asked = spec(SMALL, data__source__path=data, hardware__workers=2)
    assert predict(asked, machine(), rows=36)[0] is None
    prediction, _ = predict(asked, machine(), rows=36, site=site("2x RTX 4090"))
    assert prediction is not None
    assert not prediction.row.here
    assert prediction.row.cards == 2
    assert prediction.row.usd_per_hour == pytest.approx(0.63)


def test_plan_beside_actual(data: str) -> None:
    prediction, _ = predict(spec(SMALL, data__source__path=data), machine(), rows=36)
    assert prediction is not None
    result = RESULT.model_copy(update={"memory_bytes": 2**30})
    found = {figure.name: figure for figure in beside(prediction, result, {"training": 9.0, "idle": 1.0}, 0.5).figures}
    assert found["memory of a worker"].predicted == prediction.row.worker_bytes
    assert found["memory of a worker"].actual == 2**30
    assert (found["training"].actual, found["whole run"].actual, found["cost"].actual) == (9.0, 10.0, 0.5)
    assert found["training"].predicted == prediction.row.training_seconds


def test_results_of_before_are_still_read() -> None:
    old = RESULT.model_dump(mode="json")
    del old["memory_bytes"]
    assert TrainingResult.model_validate(old).memory_bytes is None


def test_what_is_not_known_is_not_predicted(data: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    prediction, why_not = predict(spec("nobody/has-this", data__source__path=data), machine(), rows=36)
    assert prediction is None
    assert "nobody/has-this" in why_not
    monkeypatch.setenv("RAY_ADDRESS", "ray://somewhere:10001")
    assert predict(spec(SMALL, data__source__path=data), machine(), rows=36)[0] is None


def test_rows_that_were_read_need_no_file() -> None:
    prediction, _ = predict(spec(SMALL), machine(), examples=[Example(text="word " * 40)] * 12)
    assert prediction is not None
    assert prediction.workload.startswith("12 rows")


def test_what_does_not_fit_is_refused(data: str) -> None:
    run = spec("meta-llama/Llama-3.1-70B", data__source__path=data)
    with pytest.raises(HardwareError, match="No strategy fits"):
        predict(run, machine(memory_gib=16), rows=36)
