"""The plan: what each strategy needs on each hardware, what fits, what does not and why, and which one a run takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from cluster.billing.gpus import CARDS, CATALOGUE_DATE
from cluster.machine.hardware import Hardware
from runspec.errors import HardwareError
from runspec.run import RunSpec
from runspec.strategy import Auto, Concrete, Ddp, DeviceMap, Zero2, Zero3
from runspec.strict import Strict
from training.planning.fixes import fix_for, gib, offloads, why_impossible, why_too_large
from training.planning.footprints import NUMBER_BYTES
from training.planning.memory import Phase, memory_of
from training.planning.shapes import ModelShape
from training.planning.sites import Site, card_site, computes_on_gpus, this_site, wanted_gpus
from training.planning.speed import FASTER, SLOWER, TimeTerm, time_of
from training.planning.workload import Workload

COUNTS = (1, 2, 4, 8)
"""How many cards of the catalogue are tried in one machine."""
TIGHT = 0.95
"""A peak above this share of the card is called tight: the memory model is no more exact than that."""


class Row(Strict):
    """One strategy on one hardware."""

    hardware: str
    cards: int
    """GPUs; 0 is the CPU."""
    here: bool
    """This machine."""
    strategy: Concrete
    offered: bool
    """`auto` would take it; offloading has to be asked for."""
    fits: bool
    why_not: str
    """Why it does not fit or is impossible, with both values; empty if it fits."""
    fix: str
    """Changes of the run file under which it fits; empty if it fits, or if none was found."""
    card_bytes: int
    """Peak of the fullest card; 0 on CPU."""
    card_limit: int
    host_bytes: int
    """Peak of the machine's memory."""
    host_limit: int | None
    """None if it is not known."""
    worker_bytes: int
    """What the largest worker will report while training."""
    tightest: str
    """The phase with the highest peak."""
    phases: tuple[Phase, ...]
    time: tuple[TimeTerm, ...]
    """Empty if the speed of the hardware or the number of steps is not known."""
    training_seconds: float | None
    hours: float | None
    usd: float | None
    usd_per_hour: float | None
    price_source: str

    @property
    def name(self) -> str:
        """The strategy as tables show it: `zero3`, `zero3 + offload`."""
        return f"{self.strategy.kind} + offload" if offloads(self.strategy) else self.strategy.kind

    @property
    def tight(self) -> bool:
        """It fits, with little to spare."""
        return self.fits and self.card_bytes > TIGHT * self.card_limit > 0


class Plan(Strict):
    """What a run needs, for each hardware and strategy."""

    run: str
    model: str
    parameters: int
    trained: int
    """Parameters of the adapter."""
    method: str
    strategy: str
    """The run file's `strategy.kind`."""
    sequence: int
    """Tokens of the longest example."""
    workload: str
    """Rows and tokens, and where the figures come from."""
    rows: tuple[Row, ...]
    hours_range: tuple[float, float] = (FASTER, SLOWER)
    """The run may take this many times the estimated hours."""
    prices_of: date = CATALOGUE_DATE
    budget_usd: float | None
    """The run file's `budget.max_usd`."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """The strategy that a run takes, why in one phrase, and what it needs."""

    strategy: Concrete
    why: str
    prediction: Row


def plan(
    spec: RunSpec,
    shape: ModelShape,
    hardware: Hardware,
    workload: Workload,
    *,
    sites: Sequence[Site] = (),
    host_bytes: int | None = None,
) -> Plan:
    """Work out a run on this machine and on the cards of the catalogue. Pure.

    Args:
        hardware: this machine.
        sites: only on these; empty: on this machine and on 1, 2, 4 and 8 of each card of the catalogue.
        host_bytes: main memory of the catalogue's machines; None: not known.

    Raises:
        ModelError: lora.targets names a layer that the model does not have.
    """
    notes = _notes(spec, shape, hardware)
    asked = list(sites)
    if not asked:
        try:
            asked.append(this_site(spec.hardware, hardware))
        except HardwareError as error:
            notes.append(f"not on this machine: {error.what} {error.fix}")
        asked += [card_site(count, card, host_bytes=host_bytes) for card in CARDS for count in COUNTS]
    rows: list[Row] = []
    for site in asked:
        found = rows_of(spec, shape, site, workload)
        fixed = found if site.here or sites else [best_of(found)]  # looking for a fix of every row takes seconds
        rows += [_with_fix(row, spec, shape, site, workload) if row in fixed else row for row in found]
    return Plan(
        run=spec.name,
        model=shape.label,
        parameters=shape.parameters,
        trained=shape.adapter(spec.lora),
        method=spec.method.kind,
        strategy=spec.strategy.kind,
        sequence=min(spec.data.max_length, shape.context),
        workload=workload.how,
        rows=tuple(rows),
        budget_usd=spec.budget.max_usd if spec.budget else None,
        notes=tuple(notes),
    )


def choose(
    spec: RunSpec, shape: ModelShape, hardware: Hardware, workload: Workload | None = None, site: Site | None = None
) -> Choice:
    """The strategy for this machine: the run file's own, or for `auto` the fastest that fits, which is the cheapest.

    Under `auto`, `hardware.workers` counts the GPUs, whether one worker or several will own them.

    Args:
        hardware: the machine that the run will be on.
        workload: rows and tokens; None: time is not known, and the first that fits of ddp, zero2, zero3, device_map
            is taken.
        site: other hardware than this machine.

    Raises:
        HardwareError: the run file asks for more GPUs than there are, for something that does not fit or is
            impossible, or nothing fits.
        ModelError: lora.targets names a layer that the model does not have.
    """
    workload = workload or Workload(None, float(spec.data.max_length), None, "not counted")
    site = site or this_site(spec.hardware, hardware)
    rows = [_with_fix(row, spec, shape, site, workload) for row in rows_of(spec, shape, site, workload)]
    if not isinstance(spec.strategy, Auto):
        asked = next(row for row in rows if row.strategy == spec.strategy)
        if not asked.fits:
            raise HardwareError(asked.why_not, where="strategy", fix=asked.fix or _otherwise(rows))
        return Choice(asked.strategy, "named in the run file", asked)
    fitting = sorted((row for row in rows if row.fits and row.offered), key=lambda row: row.hours or 0.0)
    if not fitting:
        nearest = nearest_of([row for row in rows if row.offered])
        raise HardwareError(
            f"No strategy fits: {nearest.why_not}", where="strategy", fix=nearest.fix or _otherwise(rows)
        )
    best = fitting[0]
    return Choice(best.strategy, _why(best, fitting, rows), best)


def nearest_of(rows: Sequence[Row]) -> Row:
    """The row that is closest to fitting: it is possible, and exceeds its card or host the least."""

    def excess(row: Row) -> tuple[bool, float]:
        card = row.card_bytes / row.card_limit if row.card_limit else 0.0
        host = row.host_bytes / row.host_limit if row.host_limit else 0.0
        return max(card, host) <= 1, max(card, host)  # with enough memory, something else rules it out

    return min(rows, key=excess)


def best_of(rows: Sequence[Row]) -> Row:
    """Of one hardware: the cheapest that fits, offloading only if nothing else does; else the closest to fitting."""
    fitting = [row for row in rows if row.fits and row.offered] or [row for row in rows if row.fits]
    return min(fitting, key=lambda row: row.hours or 0.0) if fitting else nearest_of(rows)


def explained(plan: Plan) -> Row:
    """The row whose terms `--explain` prints: on the first hardware, the run file's own strategy or the best."""
    first = [row for row in plan.rows if row.hardware == plan.rows[0].hardware]
    return first[0] if plan.strategy != "auto" else best_of(first)


def candidates(spec: RunSpec, site: Site) -> list[tuple[Concrete, bool]]:
    """The strategies to plan, the run file's own first, and whether `auto` would take each."""
    own = [] if isinstance(spec.strategy, Auto) else [spec.strategy]
    if site.cards < 2:
        others: list[Concrete] = [Ddp()]
    else:
        others = [Ddp(), Zero2(), Zero3(), DeviceMap()]
    found: list[tuple[Concrete, bool]] = [(strategy, True) for strategy in own]
    found += [(strategy, True) for strategy in others if strategy not in own]
    offload = Zero3(offload_optimizer=True, offload_parameters=True)
    if site.cards and offload not in own:
        found.append((offload, False))
    return found


def rows_of(spec: RunSpec, shape: ModelShape, site: Site, workload: Workload) -> list[Row]:
    """Each strategy on one hardware."""
    return [_row(spec, shape, site, workload, strategy, offered) for strategy, offered in candidates(spec, site)]


def _row(spec: RunSpec, shape: ModelShape, site: Site, workload: Workload, strategy: Concrete, offered: bool) -> Row:
    need = memory_of(shape, spec, strategy, site, row_tokens=workload.longest_tokens)
    why_not, fix = why_impossible(spec, strategy, site) or (why_too_large(need, site), "")
    time = time_of(shape, spec, strategy, site, workload)
    hours = time.seconds / 3600 if time else None
    return Row(
        hardware=site.label,
        cards=site.cards,
        here=site.here,
        strategy=strategy,
        offered=offered,
        fits=not why_not,
        why_not=why_not,
        fix=fix,
        card_bytes=need.card_bytes,
        card_limit=site.card_bytes,
        host_bytes=need.host_bytes,
        host_limit=site.host_bytes,
        worker_bytes=need.worker_bytes,
        tightest=max(need.phases, key=lambda phase: phase.card_bytes if site.cards else phase.host_bytes).name,
        phases=need.phases,
        time=time.terms if time else (),
        training_seconds=time.training_seconds if time else None,
        hours=hours,
        usd=hours * site.usd_per_hour if hours is not None and site.usd_per_hour is not None else None,
        usd_per_hour=site.usd_per_hour,
        price_source=site.price_source,
    )


def _with_fix(row: Row, spec: RunSpec, shape: ModelShape, site: Site, workload: Workload) -> Row:
    if row.fits or row.fix:
        return row
    return row.model_copy(update={"fix": fix_for(shape, spec, row.strategy, site, workload.longest_tokens)})


def _why(best: Row, fitting: Sequence[Row], rows: Sequence[Row]) -> str:
    if best.cards < 2:
        return "one process holds the model" if best.cards else "on CPU each worker holds the model"
    others = [row.name for row in fitting[1:]]
    too_large = [row.name for row in rows if row.offered and not row.fits]
    parts = [f"the fastest of {len(fitting)} that fit" if others else "the only one that fits"]
    parts += [f"too large: {', '.join(too_large)}"] if too_large else []
    return "; ".join(parts)


def _otherwise(rows: Sequence[Row]) -> str:
    other = next((row for row in rows if row.fits), None)
    if other is not None:
        names = ("offload_optimizer", "offload_parameters")
        flags = "".join(f", {name}: true" for name in names if getattr(other.strategy, name, False))
        return f"Set strategy: {{kind: {other.strategy.kind}{flags}}}, which fits."
    return "Use more or larger GPUs: `guitarfish plan` shows which are enough."


def _notes(spec: RunSpec, shape: ModelShape, hardware: Hardware) -> list[str]:
    found = []
    if spec.publish is not None:
        plain = shape.parameters * NUMBER_BYTES["bfloat16"]
        found.append(
            f"serving needs {gib(plain)} for plain bfloat16 weights, and room for keys and values: vLLM reserves 90 % "
            "of a card by default"
        )
    if spec.lora.dora:
        found.append("lora.dora takes more memory and time than planned here: each step unpacks every adapted matrix")
    if spec.data.max_length > shape.context:
        found.append(f"data.max_length is {spec.data.max_length}, but {shape.label} has a context of {shape.context}")
    wanted, there = wanted_gpus(spec.hardware), len(hardware.gpus)
    if computes_on_gpus(spec.hardware, hardware) and wanted < there:
        found.append(f"this machine has {there} GPUs, of which hardware.workers: {wanted} uses {wanted}")
    if spec.hardware.price_usd_per_hour is not None:
        found.append("hardware.price_usd_per_hour is used for this machine, the catalogue's prices for all others")
    return found
