"""Publishing into the registry, and serving from it."""

from typing import Literal

from pydantic import Field

from runspec.strict import Strict

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
"""Names of runs, adapters and aliases: valid DNS labels and Kubernetes object names."""
REFERENCE_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}(@[a-z0-9][a-z0-9-]{0,62})?$"
"""An adapter of the registry: name, name@alias or name@version."""


class PublishSpec(Strict):
    """Where a run that passes its gate is published."""

    adapter: str | None = Field(default=None, pattern=NAME_PATTERN)
    """The adapter's name in the registry. Null: the run file's name."""
    alias: str | None = Field(default="prod", pattern=NAME_PATTERN)
    """The alias that is moved to the new version. Null: none is moved."""


class ServingSpec(Strict):
    """How the base model and its adapters are served."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8000, ge=1, le=65535)
    """Port to listen on."""
    api_keys: Literal["auto", "required", "off"] = "auto"
    """Whether requests need a key of `guitarfish keys`. `auto` asks for one unless `host` is this machine's own
    loopback address."""
    max_adapters: int = Field(default=8, ge=1)
    """Adapters held in memory by one replica at a time."""
    max_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 16
    """Largest adapter rank that the server takes: one of the sizes vLLM has."""
    max_model_len: int = Field(default=2048, ge=64)
    """Longest prompt and answer together, in tokens."""
    kv_cache_gib: float = Field(default=1.0, gt=0)
    """Memory for the key-value cache where vLLM runs on CPU, in GiB."""
    min_replicas: int = Field(default=1, ge=1)
    """Replicas that are always up."""
    max_replicas: int = Field(default=1, ge=1)
    """Replicas at most."""
    max_ongoing_requests: int = Field(default=64, ge=1)
    """Requests that one replica works on at a time."""
    max_queued_requests: int | None = Field(default=None, ge=1)
    """Requests that wait at the front door while all replicas are full; more are answered 429. A burst waits there
    for a moment even where replicas are free. Null: as many as all replicas together work on."""
    target_ongoing_requests: int | None = Field(default=None, ge=1)
    """Requests a replica beyond which another is started, up to `max_replicas`. Null: half of
    `max_ongoing_requests`."""
    scale_up_after_s: float = Field(default=10, ge=0)
    """Seconds that the load has to last before a replica is added."""
    scale_down_after_s: float = Field(default=300, ge=0)
    """Seconds that the load has to be gone before a replica is ended."""
    usage_every_s: float = Field(default=60, gt=0)
    """Seconds between two entries of tokens and replica time in the ledger."""
