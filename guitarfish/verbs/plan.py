"""`guitarfish plan`: what a run will need on which hardware, how long it takes and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster.billing.gpus import parse_cards
from cluster.machine.hardware import detect
from guitarfish.show.plan_tables import show_plan, show_terms
from guitarfish.show.rendering import print_json
from guitarfish.verbs.options import AsJson, Overrides, RunFile
from runspec.errors import HardwareError
from runspec.load import load_run
from training.planning import planner
from training.planning.shape_sources import find_shape
from training.planning.sites import GIB, card_site
from training.planning.workload import workload_of


def plan(
    run_file: RunFile,
    set_: Overrides = None,
    hardware: Annotated[
        list[str] | None,
        typer.Option("--hardware", metavar="NxCARD", help='Plan only for this, as in "2x RTX 4090". Can be repeated.'),
    ] = None,
    host_memory: Annotated[
        float | None,
        typer.Option("--host-memory", metavar="GIB", help="Main memory of other machines."),
    ] = None,
    rows: Annotated[
        int | None, typer.Option("--rows", metavar="N", help="Rows to train on, where they cannot be counted.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="config.json of a model that is not known.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the terms that memory and time add up from.")
    ] = False,
    all_: Annotated[bool, typer.Option("--all", help="Every strategy on all hardware, not only the best.")] = False,
    json: AsJson = False,
) -> None:
    """Predict memory, hours and dollars for each hardware and strategy, what fits, and why the rest does not.

    Nothing is downloaded and no weight is read.
    """
    loaded = load_run(run_file, set_ or ())
    host_bytes = _host_bytes(host_memory)
    sites = [card_site(count, card, host_bytes=host_bytes) for count, card in map(parse_cards, hardware or ())]
    workload = workload_of(loaded, rows)
    shape = find_shape(loaded.spec.model, loaded.folder, config)
    made = planner.plan(loaded.spec, shape, detect(), workload, sites=sites, host_bytes=host_bytes)
    if json:
        print_json(made)
        return
    show_plan(made, every=all_ or bool(hardware))
    if explain:
        show_terms(made)


def _host_bytes(gib: float | None) -> int | None:
    if gib is None:
        return None
    if not 0 < gib < 1e6:
        raise HardwareError(
            f"--host-memory is {gib:g} GiB.", where="--host-memory", fix="Pass the machine's main memory, such as 128."
        )
    return int(gib * GIB)
