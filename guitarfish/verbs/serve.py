"""`guitarfish serve`: a run file's base model and its store's adapters on OpenAI-compatible endpoints."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from cluster.machine.hardware import Hardware, detect
from cluster.store.storage import open_store
from guitarfish.show.rendering import note, print_json
from guitarfish.verbs.options import AsJson, BaseName, Overrides, RunFile
from registry.adapters import Registry
from runspec.load import LoadedRun, load_run, resolved
from runspec.paths import resolve_path
from serving.application import Server, start
from serving.client import wait_ready
from serving.door.catalogue import Catalogue
from serving.plan import Accelerator, ServePlan, choose_dtype, replica_price
from training.model.base_model import materialise


def serve(
    run_file: RunFile,
    set_: Overrides = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option("--adapter", metavar="NAME", help="Refuse to start without this adapter. May be repeated."),
    ] = None,
    base_name: BaseName = "base",
    json: AsJson = False,
) -> None:
    """Serve the run file's base model and every adapter in its store that fits it, until Ctrl-C."""
    plan = plan_of(load_run(run_file, set_ or ()), base_name, tuple(adapter or ()))
    note(f"starting: {plan.base_folder.name} in {plan.dtype} on {plan.accelerator}; one to two minutes on a CPU")
    setting = f"serving.api_keys: {plan.spec.api_keys}, serving.host: {plan.spec.host}"
    if plan.asks_for_keys:
        note(f"requests need an API key from `guitarfish keys create` ({setting})")
    else:
        note(f"requests need no API key: anyone who reaches the port can use it ({setting})")

    def ready(server: Server) -> None:
        wait_ready(server.url, timeout=60)
        # not asked over HTTP: that may need a key, and we have none
        names = list(asyncio.run(Catalogue(plan, Registry(open_store(plan.store))).listing()))
        if json:
            logs = str(server.logs) if server.logs else None
            facts = {"url": f"{server.url}/v1", "models": names, "api_keys": plan.asks_for_keys}
            print_json(facts | {"metrics": list(server.metrics), "logs": logs})
            sys.stdout.flush()  # a program that reads this waits for it, and we go on for hours
        else:
            note(f"ready: {server.url}/v1 answers for {', '.join(names)}")
            note(f"metrics: {', '.join(server.metrics)}")
            note(f"logs: {server.logs}; stop with Ctrl-C" if server.logs else "stop with Ctrl-C")

    start(plan, blocking=True, on_ready=ready)


def plan_of(loaded: LoadedRun, base_name: str, adapters: tuple[str, ...]) -> ServePlan:
    """What a run file asks to be served, on this machine. Raises ModelError: the base model is not found."""
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
        dtype=choose_dtype(accelerator, multiplies_bfloat16=_multiplies_bfloat16(accelerator, hardware)),
        cores=hardware.cores,
        adapters=adapters,
        chat_template=resolve_path(template, loaded.folder) if template else None,
        trust_remote_code=spec.model.trust_remote_code,
        price=replica_price(hardware, spec.serving, accelerator, spec.hardware.price_usd_per_hour),
    )


def _multiplies_bfloat16(accelerator: Accelerator, hardware: Hardware) -> bool:
    if accelerator == "cpu":
        return hardware.multiplies_bfloat16
    import torch

    return torch.cuda.is_bf16_supported()
