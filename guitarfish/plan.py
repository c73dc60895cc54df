"""`guitarfish plan`: what a run will need, on which hardware, for how long and for how much; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guitarfish.options import AsJson, Overrides, RunFile

if TYPE_CHECKING:
    from runspec.load import LoadedRun
    from training.planning.planner import Plan
    from training.planning.sites import Site


def plan(
    run_file: RunFile,
    set_: Overrides = None,
    hardware: Annotated[
        list[str] | None,
        typer.Option("--hardware", metavar="NxCARD", help='Plan for this alone, as in "2x RTX 4090". May be repeated.'),
    ] = None,
    host_memory: Annotated[
        float | None,
        typer.Option("--host-memory", metavar="GIB", help="Main memory of machines that are not this one."),
    ] = None,
    rows: Annotated[
        int | None, typer.Option("--rows", metavar="N", help="Rows to train on, where they cannot be counted.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="config.json of a model that is not known here.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the terms that memory and time add up from.")
    ] = False,
    all_: Annotated[bool, typer.Option("--all", help="Every strategy on all hardware, not only the best.")] = False,
    json: AsJson = False,
) -> None:
    """Predict memory, hours and dollars for each hardware and strategy, and say what fits and why not.

    Nothing is downloaded and no weight is read.
    """
    from runspec.load import load_run

    loaded = load_run(run_file, set_ or ())
    made = _make(loaded, hardware or [], host_memory, rows, config)
    if json:
        from guitarfish.rendering import print_json

        print_json(made)
        return
    from guitarfish.plan_tables import show_plan, show_terms

    show_plan(made, every=all_ or bool(hardware))
    if explain:
        show_terms(made)


def _make(
    loaded: LoadedRun, named: list[str], host_memory: float | None, rows: int | None, config: Path | None
) -> Plan:
    from cluster.hardware import detect
    from training.planning.planner import plan as work_out
    from training.planning.shape_sources import find_shape
    from training.planning.workload import workload_of

    host_bytes = _host_bytes(host_memory)
    sites = [_site(text, host_bytes) for text in named]
    workload = workload_of(loaded, rows)
    shape = find_shape(loaded.spec.model, loaded.folder, config)
    return work_out(loaded.spec, shape, detect(), workload, sites=sites, host_bytes=host_bytes)


def _site(text: str, host_bytes: int | None) -> Site:
    from cluster.cards import parse_cards
    from training.planning.sites import card_site

    count, card = parse_cards(text)
    return card_site(count, card, host_bytes=host_bytes)


def _host_bytes(gib: float | None) -> int | None:
    from runspec.errors import HardwareError

    if gib is None:
        return None
    if not 0 < gib < 1e6:
        raise HardwareError(
            f"--host-memory is {gib:g} GiB.", where="--host-memory", fix="Name the machine's main memory, such as 128."
        )
    return int(gib * 2**30)
