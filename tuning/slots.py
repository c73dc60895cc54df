"""How many trials run at the same time, what each gets and costs, whether another may start: pure decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cluster.billing.prices import Price
from cluster.machine.session import Session
from runspec.errors import HardwareError
from runspec.run import RunSpec
from runspec.strategy import Auto, Concrete, Ddp, DeviceMap
from training.strategies.placement import Placement
from training.strategies.strategy import load_strategy


def trial_strategy(spec: RunSpec) -> Ddp | DeviceMap:
    """How a trial's one worker holds the model: on one device, or over all GPUs it owns.

    Raises:
        HardwareError: the run file's strategy splits a model over several workers.
    """
    if isinstance(spec.strategy, Auto):
        return Ddp()
    if isinstance(spec.strategy, Ddp | DeviceMap):
        return spec.strategy
    raise HardwareError(
        f"strategy.kind is {spec.strategy.kind}, which splits a model over workers, but a trial has one worker.",
        where="strategy.kind",
        fix="Set strategy.kind: auto, or device_map with hardware.gpus_per_worker.",
    )


def slots_of(spec: RunSpec, strategy: Concrete, session: Session, trials: int) -> Placement:
    """How many trials run at the same time, as `workers`, and what each gets.

    Args:
        trials: how many are to be run.

    Raises:
        HardwareError: `tuning.concurrent` asks for more than the cluster has.
    """
    one = load_strategy(strategy).place(spec.hardware, session)
    room = session.gpus // one.gpus_per_worker if one.gpus_per_worker else session.cpus // one.cpus_per_worker
    wanted = min((spec.tuning and spec.tuning.concurrent) or room, trials)
    if not one.gpus_per_worker and spec.hardware.cpus_per_worker is None:
        one = replace(one, cpus_per_worker=max(1, min(8, session.cpus // wanted)))
        room = session.cpus // one.cpus_per_worker
    if wanted > room:
        unit = "GPUs" if one.gpus_per_worker else "CPU cores"
        each = one.gpus_per_worker or one.cpus_per_worker
        has = session.gpus if one.gpus_per_worker else session.cpus
        raise HardwareError(
            f"tuning.concurrent is {wanted}, which takes {wanted * each} {unit}, but the cluster has {has}.",
            where="tuning.concurrent",
            fix=f"Set tuning.concurrent: {max(1, room)}, or leave it out.",
        )
    return replace(one, workers=wanted)


def price_of_trial(price: Price, slots: Placement) -> Price:
    """What one trial costs an hour.

    On GPUs each trial has its own, and `price` is that of one worker. On CPU `price` is the machine's, which the trials
    that run at the same time share.
    """
    if slots.gpus_per_worker or slots.workers == 1:
        return price
    return price.shared(slots.workers, "trials at a time")


def may_start(spent_usd: float, budget_usd: float | None, trials_usd: Sequence[float]) -> bool:
    """Whether the rest of the budget could take one more trial as far as the cheapest one got.

    Args:
        spent_usd: what all attempts have cost.
        trials_usd: what each ended trial cost, stopped and failed ones too.
    """
    return budget_usd is None or spent_usd + min(trials_usd, default=0.0) < budget_usd
