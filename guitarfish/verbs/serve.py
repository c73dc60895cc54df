"""`guitarfish serve`: a run file in, its base model and the registry's adapters on the OpenAI endpoints."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from guitarfish.show.rendering import note, print_json
from guitarfish.verbs.options import AsJson, Overrides, RunFile

if TYPE_CHECKING:
    from runspec.load import LoadedRun
    from serving.application import Server
    from serving.plan import Accelerator, ServePlan


def serve(
    run_file: RunFile,
    set_: Overrides = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option("--adapter", metavar="NAME", help="Refuse to start without this one. May be repeated."),
    ] = None,
    base_name: Annotated[str, typer.Option("--base-name", help="What clients call the base model.")] = "base",
    json: AsJson = False,
) -> None:
    """Serve the run file's base model and every adapter of its store that fits it, until Ctrl-C."""
    from runspec.load import load_run
    from serving.application import start

    plan = plan_of(load_run(run_file, set_ or ()), base_name, tuple(adapter or ()))
    note(f"starting: {plan.base_folder.name} in {plan.dtype} on {plan.accelerator}; one to two minutes on a CPU")
    note(_who_may_ask(plan))

    def ready(server: Server) -> None:
        names = _served_names(plan, server)
        if json:
            print_json(_ready_facts(plan, server, names))
            sys.stdout.flush()  # a program that reads this waits for it, and we go on for hours
        else:
            note(f"ready: {server.url}/v1 answers for {', '.join(names)}")
            note(f"metrics: {', '.join(server.metrics)}")
            note(f"logs: {server.logs}; stop with Ctrl-C" if server.logs else "stop with Ctrl-C")

    start(plan, blocking=True, on_ready=ready)


def _who_may_ask(plan: ServePlan) -> str:
    setting = f"serving.api_keys: {plan.spec.api_keys}, serving.host: {plan.spec.host}"
    if plan.asks_for_keys:
        return f"requests need an API key of `guitarfish keys` ({setting})"
    return f"requests need no API key: whoever reaches the port may ask ({setting})"


def _served_names(plan: ServePlan, server: Server) -> list[str]:
    """Every name that is answered. It is not asked over HTTP: that may need a key, and we have none."""
    import asyncio

    from cluster.store.storage import open_store
    from registry.adapters import Registry
    from serving.client import wait_ready
    from serving.door.catalogue import Catalogue

    wait_ready(server.url, timeout=60)
    return list(asyncio.run(Catalogue(plan, Registry(open_store(plan.store))).listing()))


def _ready_facts(plan: ServePlan, server: Server, names: list[str]) -> dict[str, object]:
    return {
        "url": f"{server.url}/v1",
        "models": names,
        "api_keys": plan.asks_for_keys,
        "metrics": list(server.metrics),
        "logs": str(server.logs) if server.logs else None,
    }


def plan_of(loaded: LoadedRun, base_name: str, adapters: tuple[str, ...]) -> ServePlan:
    """What a run file asks to be served, on this machine.

    Raises:
        ModelError: the base model cannot be found or made.
    """
    from cluster.machine.hardware import detect
    from runspec.load import resolved
    from runspec.paths import resolve_path
    from serving.plan import ServePlan, choose_dtype, replica_price
    from training.model.base_model import materialise

    spec, hardware = resolved(loaded), detect()
    base = materialise(spec.model, loaded.folder)
    accelerator: Accelerator = "gpu" if hardware.gpus and spec.hardware.accelerator != "cpu" else "cpu"
    template = spec.model.chat_template
    return ServePlan(
        base_folder=base.folder,
        base_digest=base.digest,
        base_name=base_name,
        store=spec.store,
        spec=spec.serving,
        accelerator=accelerator,
        dtype=choose_dtype(accelerator, multiplies_bfloat16=_multiplies_bfloat16(accelerator)),
        cores=hardware.cores,
        adapters=adapters,
        chat_template=resolve_path(template, loaded.folder) if template else None,
        trust_remote_code=spec.model.trust_remote_code,
        price=replica_price(hardware, spec.serving, accelerator, spec.hardware.price_usd_per_hour),
    )


def _multiplies_bfloat16(accelerator: Accelerator) -> bool:
    from cluster.machine.hardware import detect

    if accelerator == "cpu":
        return detect().multiplies_bfloat16
    import torch

    return torch.cuda.is_bf16_supported()
