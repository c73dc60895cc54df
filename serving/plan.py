"""What is served, decided before anything starts: model, names, memory, number format, share of the machine."""

from __future__ import annotations

import ipaddress
import json
import logging
import math
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from cluster.billing.prices import Price, price_of
from cluster.machine.hardware import Hardware
from runspec.errors import ServingError
from runspec.model import HubModel
from runspec.publish import ServingSpec

log = logging.getLogger(__name__)

Accelerator = Literal["cpu", "gpu"]
Dtype = Literal["bfloat16", "float16", "float32"]

GIB = 1024**3
DTYPE_BYTES: dict[str, int] = {"bfloat16": 2, "float16": 2, "float32": 4}
PROCESS_BYTES = int(0.7 * GIB)
"""Memory of an idle process that has imported vLLM: 0.65 to 0.75 GiB measured with vLLM 0.32 on CPU."""
BASE_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")
"""Ray splits model ids at the first colon and we split references at the @, so a base's name has neither."""
NO_PRICE = Price(usd_per_hour=0, source="none given", date=date(1970, 1, 1))


@dataclass(frozen=True)
class ServePlan:
    """One base model and the adapters of one store, on one kind of machine.

    Attributes:
        base_folder: the base model as plain safetensors, with tokenizer and chat template. Not read if `hub` is set.
        base_digest: identifies its weights; only adapters trained on it are served.
        base_name: what clients call the base model.
        store: URI of the store whose registry is served; a local one as an absolute path.
        spec: the run file's `serving`.
        accelerator: where vLLM computes.
        dtype: number format of weights and activations.
        cores: CPU cores of this machine; replicas share them.
        adapters: names that must be servable when the server starts. Empty: whatever the registry has.
        chat_template: a Jinja file that replaces the base model's own template.
        trust_remote_code: run Python code from the model's folder.
        hub: a model on the hub, with a commit as its revision, that each machine downloads for itself.
        alias_seconds: how long aliases and keys are cached, and so how late a change is noticed.
        price: of one replica.
    """

    base_folder: Path
    base_digest: str
    base_name: str
    store: str
    spec: ServingSpec
    accelerator: Accelerator
    dtype: Dtype
    cores: int = 1
    adapters: tuple[str, ...] = ()
    chat_template: Path | None = None
    trust_remote_code: bool = False
    hub: HubModel | None = None
    alias_seconds: float = 1.0
    price: Price = NO_PRICE

    @property
    def asks_for_keys(self) -> bool:
        return asks_for_keys(self.spec)

    @property
    def max_queued_requests(self) -> int:
        """Most requests that wait at the front door."""
        if self.spec.max_queued_requests is not None:
            return self.spec.max_queued_requests
        return self.spec.max_ongoing_requests * self.spec.max_replicas

    @property
    def model_source(self) -> str:
        """What vLLM loads: a folder on this machine, or the id of a model on the hub."""
        return self.hub.id if self.hub is not None else str(self.base_folder)

    @property
    def url(self) -> str:
        """Where the server answers."""
        host = "127.0.0.1" if self.spec.host in ("0.0.0.0", "::") else self.spec.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.spec.port}"

    @property
    def cores_per_replica(self) -> int:
        """CPU cores of one replica: its share of the machine's when all replicas are up."""
        return max(1, self.cores // self.spec.max_replicas)

    @property
    def kv_cache_bytes(self) -> int:
        """Key-value cache of one replica on a CPU, in bytes."""
        return math.ceil(self.spec.kv_cache_gib * GIB)


def asks_for_keys(spec: ServingSpec) -> bool:
    """Whether requests need an API key: `auto` requires one if other machines can reach the server."""
    return not is_loopback(spec.host) if spec.api_keys == "auto" else spec.api_keys == "required"


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach an address. Names other than localhost are not looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def replica_price(hardware: Hardware, spec: ServingSpec, accelerator: Accelerator, override: float | None) -> Price:
    """The price per hour of one replica: of one GPU, or of its share of the machine's cores.

    Args:
        override: the run file's `hardware.price_usd_per_hour`, for all replicas together.
    """
    if override is None and accelerator == "gpu":
        return price_of(hardware, 1, None)
    machine = hardware if accelerator == "gpu" else hardware.model_copy(update={"gpus": ()})
    return price_of(machine, spec.max_replicas, override).shared(spec.max_replicas, "replicas")


def choose_dtype(accelerator: Accelerator, *, multiplies_bfloat16: bool) -> Dtype:
    """The number format in which vLLM is fastest.

    A CPU without bfloat16 instructions converts on every multiplication. Measured with vLLM 0.32 on one AVX2 core and a
    135M model: it reads a prompt at 186 tokens/s in float32, 39 in bfloat16 and 27 in float16, and generates eight
    answers at once at 48, 16 and 22 tokens/s.
    """
    if accelerator == "gpu":
        return "bfloat16" if multiplies_bfloat16 else "float16"
    return "bfloat16" if multiplies_bfloat16 else "float32"


def check_base_name(name: str) -> None:
    """Raise ServingError if clients or Ray could not use the base model's name."""
    if not BASE_NAME.match(name):
        raise ServingError(
            f"`{name}` is not a valid name for the base model.",
            where="--base-name",
            fix="Use letters, digits, dots, hyphens, underscores and slashes, but not `:` or `@`.",
        )


def weights_bytes(folder: Path, dtype: Dtype) -> int:
    """Size of the model's weights once loaded as `dtype`, in bytes.

    Raises:
        ServingError: the folder is not a model's.
    """
    config = folder / "config.json"
    files = list(folder.glob("*.safetensors"))
    if not config.is_file() or not files:
        raise ServingError(
            f"{folder} is not a model folder: it has no config.json or no *.safetensors.",
            where=str(folder),
            fix="Use a folder written by `save_pretrained`.",
        )
    settings = json.loads(config.read_text())
    stored = DTYPE_BYTES.get(settings.get("dtype") or settings.get("torch_dtype") or "bfloat16", 2)
    return sum(file.stat().st_size for file in files) * DTYPE_BYTES[dtype] // stored


def memory_needed(plan: ServePlan, replicas: int) -> int:
    """Main memory that serving takes on a CPU machine with this many replicas, in bytes.

    A replica is three processes (server, engine, worker), and the front door is one more.
    """
    replica = 3 * PROCESS_BYTES + weights_bytes(plan.base_folder, plan.dtype) + plan.kv_cache_bytes
    return PROCESS_BYTES + replicas * replica


def check_memory(plan: ServePlan, available_bytes: int) -> None:
    """Refuse a plan that does not fit this machine's free memory, and warn of replicas that could not be added.

    Raises:
        ServingError: with what is needed, what is free, and which setting to lower.
    """
    if plan.accelerator == "gpu":
        return
    replicas = plan.spec.min_replicas
    needed = memory_needed(plan, replicas)
    if needed > available_bytes:
        raise ServingError(
            f"Serving needs about {needed / GIB:.1f} GiB of memory, but only {available_bytes / GIB:.1f} GiB are free: "
            f"{replicas} x (weights {weights_bytes(plan.base_folder, plan.dtype) / GIB:.1f} GiB "
            f"+ key-value cache {plan.spec.kv_cache_gib:g} GiB + {3 * PROCESS_BYTES / GIB:.1f} GiB of processes).",
            where=f"serving.kv_cache_gib: {plan.spec.kv_cache_gib:g}, serving.min_replicas: {replicas}",
            fix="Lower one of the two, or stop other programs.",
        )
    most = memory_needed(plan, plan.spec.max_replicas)
    if most > available_bytes:
        log.warning(
            "serving.max_replicas is %s: that many need about %.1f GiB of memory, but only %.1f GiB are free. A "
            "replica that is added under load and does not fit may crash the others; lower serving.max_replicas.",
            plan.spec.max_replicas,
            most / GIB,
            available_bytes / GIB,
        )


def check_lengths(plan: ServePlan) -> None:
    """Refuse conversations longer than the model's context, or of which not even one fits the key-value cache.

    vLLM refuses both too, but a minute later and in a replica's log.

    Raises:
        ServingError: with both values.
    """
    config = json.loads((plan.base_folder / "config.json").read_text())
    longest = config.get("max_position_embeddings")
    length = plan.spec.max_model_len
    if isinstance(longest, int) and length > longest:
        raise ServingError(
            f"{plan.base_folder.name} reads at most {longest} tokens, but serving.max_model_len is {length}.",
            where=f"serving.max_model_len: {length}",
            fix=f"Set serving.max_model_len to {longest} or less.",
        )
    heads, layers, hidden = (config.get(key) for key in ("num_attention_heads", "num_hidden_layers", "hidden_size"))
    if plan.accelerator == "gpu" or not (heads and layers and hidden):
        return  # vLLM decides
    head_size = config.get("head_dim") or hidden // heads
    values_per_token = 2 * layers * (config.get("num_key_value_heads") or heads) * head_size
    needed = length * values_per_token * DTYPE_BYTES[plan.dtype]
    if needed > plan.kv_cache_bytes:
        raise ServingError(
            f"One conversation of {length} tokens needs {needed / GIB:.2f} GiB of key-value cache, "
            f"but there are only {plan.spec.kv_cache_gib:g} GiB.",
            where=f"serving.kv_cache_gib: {plan.spec.kv_cache_gib:g}, serving.max_model_len: {length}",
            fix="Raise the first or lower the second.",
        )
