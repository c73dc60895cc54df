"""What `guitarfish deploy` runs on the cluster: Ray Serve imports `application` and calls it with plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from cluster.billing.prices import Price, price_of_cores, price_of_gpus
from cluster.machine.hardware import detect
from runspec.errors import SpecError
from runspec.model import HubModel, ModelSpec
from runspec.paths import resolve_path
from runspec.publish import ServingSpec
from runspec.strict import Strict
from serving.application import build_application
from serving.checks import check_adapters
from serving.plan import ServePlan, check_base_name, choose_dtype
from training.model.base_model import hub_digest, materialise, pin_hub_model

if TYPE_CHECKING:
    from ray.serve import Application  # `guitarfish deploy` needs no ray


class Deployment(Strict):
    """What is served on a cluster: the part of a run file that serving needs, and options of `deploy`.

    It is part of a manifest that everyone in the namespace can read, so it has no keys or credentials.
    """

    store: str
    """URI of the store whose adapters are served."""
    model: ModelSpec
    """The base model."""
    serving: ServingSpec
    """How it is served."""
    accelerator: Literal["cpu", "gpu"]
    """Where vLLM computes."""
    cpus: int = Field(ge=1)
    """CPU cores of each replica's pod."""
    base_name: str = "base"
    """What clients call the base model."""
    adapters: tuple[str, ...] = ()
    """Names that must be servable at the start."""
    price_usd_per_hour: float | None = Field(default=None, ge=0)
    """What all replicas together cost an hour. Null: the price of their cores, and 0 for GPUs, whose kind the head does
    not know."""


def application(arguments: Mapping[str, Any]) -> Application:
    """The Serve application of a deployment; called on the cluster, while Serve deploys it.

    Raises:
        SpecError: the arguments are not those of a `Deployment`.
        ModelError, ServingError, RegistryError, StoreError: the base model or an adapter cannot be served.
    """
    plan = plan_of(parse(arguments))
    check_base_name(plan.base_name)
    check_adapters(plan)
    return build_application(plan)


def parse(arguments: Mapping[str, Any]) -> Deployment:
    try:
        return Deployment.model_validate_json(json.dumps(dict(arguments)), strict=True)
    except (ValidationError, TypeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        place = ".".join(str(part) for part in first["loc"])
        raise SpecError(
            f"The service was deployed with arguments that this version does not accept: {first['msg']}.",
            where=f"serveConfigV2: args.{place}",
            fix="Deploy it again with the version of guitarfish in the image: `guitarfish deploy RUN.yaml`.",
        ) from None


def plan_of(deployment: Deployment) -> ServePlan:
    """What the replicas serve. Each of them fetches a model from the hub by itself, at one commit; any other model is
    prepared here, and must be on a volume that all of them share.

    Raises:
        ModelError: the base model cannot be found or prepared.
    """
    model, spec = deployment.model, deployment.serving
    hub = pin_hub_model(model.source) if isinstance(model.source, HubModel) else None
    if hub is not None:
        folder, digest = Path(hub.id), hub_digest(hub.id, hub.revision)
    else:
        base = materialise(model, Path())
        folder, digest = base.folder, base.digest
    # The head decides, and has no GPU: every GPU since Ampere multiplies bfloat16.
    bfloat16 = deployment.accelerator == "gpu" or detect().multiplies_bfloat16
    return ServePlan(
        base_folder=folder,
        base_digest=digest,
        base_name=deployment.base_name,
        store=deployment.store,
        spec=spec,
        accelerator=deployment.accelerator,
        dtype=choose_dtype(deployment.accelerator, multiplies_bfloat16=bfloat16),
        cores=deployment.cpus * spec.max_replicas,  # each replica has a pod of its own
        adapters=deployment.adapters,
        chat_template=resolve_path(model.chat_template, Path()) if model.chat_template else None,
        trust_remote_code=model.trust_remote_code,
        hub=hub,
        price=_replica_price(deployment),
    )


def _replica_price(deployment: Deployment) -> Price:
    """What one replica costs an hour; its usage is billed at that."""
    most, whole = deployment.serving.max_replicas, deployment.price_usd_per_hour
    if whole is None:
        return price_of_gpus("", 1) if deployment.accelerator == "gpu" else price_of_cores(deployment.cpus, None)
    return price_of_cores(0, whole).shared(most, "replicas")
