"""What was predicted for a run when it began, stored with it, and compared with what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cluster.billing.gpus import CATALOGUE_DATE
from cluster.billing.prices import Price
from cluster.machine.hardware import Hardware
from cluster.machine.session import on_a_cluster
from runspec.errors import HardwareError, ModelError
from runspec.load import LoadedRun
from runspec.run import RunSpec
from runspec.strategy import Auto, Concrete, Ddp, DeviceMap
from runspec.strict import Strict
from training.data.example import Example
from training.planning.planner import Row, choose
from training.planning.shape_sources import find_shape
from training.planning.sites import Site
from training.planning.workload import workload_of, workload_of_rows
from training.run.results import TrainingResult


class Prediction(Strict):
    """What a run is expected to need. Stored as runs/<run-id>/plan.json when the run begins."""

    why: str
    """Why it is this strategy."""
    workload: str
    """Rows and tokens, and where the figures come from."""
    row: Row
    """The plan's row for the hardware and the strategy of the run."""


class Compared(Strict):
    """One figure, predicted and measured; None if it was not."""

    name: str
    unit: str
    """bytes, seconds or USD."""
    predicted: float | None
    actual: float | None


class PlanBesideActual(Strict):
    """The plan's figures and those of the run, for the receipt."""

    hardware: str
    strategy: str
    figures: tuple[Compared, ...]


def predict(
    spec: RunSpec,
    hardware: Hardware,
    *,
    rows: int | None = None,
    examples: Sequence[Example] | None = None,
    site: Site | None = None,
) -> tuple[Prediction | None, str]:
    """Predict a run.

    Args:
        spec: with absolute paths.
        rows: to train on, if they have not been read yet.
        examples: the rows to train on.
        site: the hardware it will be on; None: this machine.

    Returns:
        The prediction, or None and the reason: the workers are on other machines, or the memory model does not cover
        the model. A run can begin all the same.

    Raises:
        HardwareError: what the run file asks for does not fit or is impossible.
    """
    if site is None and on_a_cluster():
        return None, "the workers are on other machines (RAY_ADDRESS)"
    here = Path()
    try:
        shape = find_shape(spec.model, here)
        run = LoadedRun(spec, here, here)
        workload = workload_of(run, rows) if examples is None else workload_of_rows(spec, examples)
        choice = choose(spec, shape, hardware, workload, site)
    except ModelError as error:
        return None, error.what
    return Prediction(why=choice.why, workload=workload.how, row=choice.prediction), ""


def planned_price(prediction: Prediction | None) -> Price | None:
    """The plan's price an hour, where it was planned for other hardware than the machine it was made on."""
    row = prediction.row if prediction else None
    if row is None or row.here or row.usd_per_hour is None:
        return None
    return Price(usd_per_hour=row.usd_per_hour, source=f"plan: {row.price_source}", date=CATALOGUE_DATE)


def strategy_of(spec: RunSpec, prediction: Prediction | None, hardware: Hardware) -> Concrete:
    """The strategy of a run: its run file's, or for `auto` what was planned, the same for each of its attempts.

    A run that only measures has no plan: it takes what training would, or, where training does not fit, one worker that
    owns all GPUs. Where that is not known (workers on other machines, a model that the memory model does not cover) it
    is ddp.
    """
    if not isinstance(spec.strategy, Auto):
        return spec.strategy
    try:
        prediction = prediction or predict(spec, hardware, rows=1)[0]
    except HardwareError:
        return DeviceMap()
    return prediction.row.strategy if prediction else Ddp()


def beside(prediction: Prediction, result: TrainingResult, seconds: dict[str, float], usd: float) -> PlanBesideActual:
    """Compare a prediction with what was measured. Pure.

    Args:
        seconds: of all attempts, by phase of the ledger.
        usd: of all attempts.
    """
    row = prediction.row
    hours = row.hours * 3600 if row.hours is not None else None
    figures = (
        Compared(name="memory of a worker", unit="bytes", predicted=row.worker_bytes, actual=result.memory_bytes),
        Compared(name="training", unit="seconds", predicted=row.training_seconds, actual=seconds.get("training")),
        Compared(name="whole run", unit="seconds", predicted=hours, actual=sum(seconds.values())),
        Compared(name="cost", unit="USD", predicted=row.usd, actual=usd),
    )
    return PlanBesideActual(hardware=row.hardware, strategy=row.name, figures=figures)
