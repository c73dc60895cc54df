"""`guitarfish deploy`: serve a run file's base model and adapters on Kubernetes, with KubeRay."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.jobs.kube_client import KubeClient
from cluster.jobs.manifests import ServeRequest, manifest_text, service_manifest
from cluster.jobs.ray_pods import CACHE_PATH
from cluster.store.storage import open_store
from guitarfish.actions.deployed import Deployment
from guitarfish.show.rendering import note, print_facts, print_json
from guitarfish.verbs.options import AsJson, BaseName, Context, Overrides, RunFile
from registry.adapters import Registry
from runspec.errors import ModelError, ServingError, SpecError, UserError
from runspec.load import load_run, resolved
from runspec.portable import is_local
from runspec.run import RunSpec
from serving.checks import check_keys
from serving.plan import PROCESS_BYTES, check_base_name
from training.planning.shape_sources import find_shape

GIB = 2**30
ROOM_BYTES = 4 * GIB
"""Main memory for adapters and requests in progress."""
CACHE_FIX = "Use a model from the hub, or set kubernetes.cache_claim and put the file under /cache on that volume."


def deploy(
    run_file: RunFile,
    set_: Overrides = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option("--adapter", metavar="NAME", help="Fail unless this adapter can be served. May be repeated."),
    ] = None,
    base_name: BaseName = "base",
    cpus: Annotated[int, typer.Option("--cpus", min=1, help="CPU cores of each replica's pod.")] = 4,
    memory: Annotated[
        float | None,
        typer.Option("--memory", metavar="GIB", help="Memory of each replica's pod, if the model's size is unknown."),
    ] = None,
    context: Context = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the manifest and send nothing.")] = False,
    json: AsJson = False,
) -> None:
    """Serve the run file's base model and its store's adapters on Kubernetes, as a RayService.

    Deploying again updates the service; KubeRay switches requests over when the update is ready.
    """
    spec = resolved(load_run(run_file, set_ or ()))
    deployment = deployment_of(spec, base_name, tuple(adapter or ()), cpus)
    request = request_of(spec, deployment, memory)
    manifest = service_manifest(spec.kubernetes, request)
    if dry_run:
        _print_manifest(manifest, as_json=json)
        return
    _check_store(deployment)
    _apply(spec, manifest, context, as_json=json)


def deployment_of(spec: RunSpec, base_name: str, adapters: tuple[str, ...], cpus: int) -> Deployment:
    """What is served, from a resolved spec.

    Raises:
        SpecError: the store is on this machine. ModelError: the base model or its template is.
        ServingError: the base model's name cannot be used.
    """
    check_base_name(base_name)
    _check_reachable(spec)
    if spec.hardware.accelerator == "auto":
        note("hardware.accelerator is auto: each replica requests one GPU (set it to cpu for none)")
    return Deployment(
        store=spec.store,
        model=spec.model,
        serving=spec.serving.model_copy(update={"host": "0.0.0.0"}),  # nothing outside a pod reaches its loopback
        accelerator="cpu" if spec.hardware.accelerator == "cpu" else "gpu",
        cpus=cpus,
        base_name=base_name,
        adapters=adapters,
        price_usd_per_hour=spec.hardware.price_usd_per_hour,
    )


def request_of(spec: RunSpec, deployment: Deployment, memory_gib: float | None) -> ServeRequest:
    """The service's size: one pod per replica. Raises ModelError where the base model's size is not known here."""
    serving = deployment.serving
    if memory_gib is not None and not 0.5 <= memory_gib <= 1e5:
        raise ServingError(
            f"--memory is {memory_gib:g} GiB.", where="--memory", fix="Give a realistic size for a pod, such as 32."
        )
    memory = int(memory_gib * GIB) if memory_gib is not None else _memory_bytes(deployment)
    return ServeRequest(
        name=spec.name,
        labels=spec.labels,
        arguments=deployment.model_dump(mode="json"),
        port=serving.port,
        least=serving.min_replicas,
        most=serving.max_replicas,
        cpus=deployment.cpus,
        memory_bytes=memory,
        gpus=1 if deployment.accelerator == "gpu" else 0,
    )


def _check_reachable(spec: RunSpec) -> None:
    if is_local(spec.store):
        raise SpecError(
            f"The store {spec.store} is on this machine, where the cluster's pods cannot reach it.",
            where=f"store: {spec.store}",
            fix="Set store: s3://bucket/prefix, and publish the adapters there with `guitarfish adapters publish`.",
        )
    shared = spec.kubernetes.cache_claim is not None
    template = spec.model.chat_template
    for key, path in (
        ("model.source.path", getattr(spec.model.source, "path", None)),
        ("model.chat_template", template),
    ):
        packaged = path is not None and path.startswith("package:")
        if path is None or (shared and (packaged or path.startswith(f"{CACHE_PATH}/"))):
            continue
        if packaged and key == "model.chat_template":
            continue
        what = "must be prepared once, on a volume that all pods share" if packaged else "is only on this machine"
        raise ModelError(f"{path} {what}.", where=f"{key}: {path}", fix=CACHE_FIX)


def _memory_bytes(deployment: Deployment) -> int:
    """Main memory of a pod: processes, the weights as vLLM holds or reads them, and on CPU the KV cache."""
    try:
        shape = find_shape(deployment.model, Path())
    except UserError as error:
        raise ModelError(
            f"The size of the base model is not known: {error.what}",
            where=error.where,
            fix="Set the memory of a pod in GiB, as in --memory 32.",
        ) from error
    if deployment.accelerator == "gpu":
        return 4 * PROCESS_BYTES + 2 * shape.parameters + ROOM_BYTES
    cache = int(deployment.serving.kv_cache_gib * GIB)
    return 4 * PROCESS_BYTES + 4 * shape.parameters + cache + ROOM_BYTES  # float32 where the CPU lacks bfloat16


def _check_store(deployment: Deployment) -> None:
    """Check that the named adapters exist, and that there is a key where keys are required.

    Raises:
        RegistryError, ServingError, StoreError
    """
    registry = Registry(open_store(deployment.store))
    for reference in deployment.adapters:
        registry.resolve(reference)
    check_keys(deployment.serving, deployment.store)


def _print_manifest(manifest: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(manifest)
    else:
        sys.stdout.write(manifest_text(manifest))


def _apply(spec: RunSpec, manifest: dict[str, Any], context: str | None, *, as_json: bool) -> None:
    settings, name = spec.kubernetes, manifest["metadata"]["name"]
    created = KubeClient(settings.namespace, context).apply("rayservices", manifest)
    facts = {
        "service": name,
        "namespace": settings.namespace,
        "done": "created" if created else "updated",
        "state": f"kubectl get rayservice {name} -n {settings.namespace}",
        "reach it": f"kubectl port-forward service/{name}-serve-svc {spec.serving.port} -n {settings.namespace}",
    }
    if as_json:
        print_json({"service": name, "namespace": settings.namespace, "created": created})
    else:
        print_facts(facts)
