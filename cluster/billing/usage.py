"""What serving used, by adapter version and key: tokens, latencies, replica time, and what it cost.

Append-only like the ledger: a server writes one record for each interval, usage/<server>/<seq>.json.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from cluster.store.records import Record, parse_record
from cluster.store.storage import Store
from runspec.strict import Strict

IDLE = "(idle)"
"""Replica time without a request in progress. No model can have this name."""
NO_MODEL = "(none)"
"""Requests that named no model of the server, or had no valid key."""
_PATH = re.compile(r"usage/[^/]+/(?P<seq>[0-9]+)\.json")


class ModelCounts(Strict):
    """The requests for one model with one key, in an interval."""

    model: str | None
    """The base model's name or NAME@VERSION. Null: no model of the server was named, or the key was not valid."""
    key: str | None
    """Id of the API key; null where none was required or it was not valid."""
    requests: int
    """All that ended in the interval, including failed and refused ones."""
    failed: int
    """Answered 5xx, or aborted by the server."""
    refused: int
    """Answered 4xx: 401, 404, 429 and requests that the engine rejects."""
    prompt_tokens: int
    """As counted by the engine."""
    completion_tokens: int
    """As counted by the engine, including answers that the client aborted."""
    seconds_to_first_token: float
    """Sum over answered requests, including the wait for a replica and the adapter. Without streaming, the time to the
    whole answer."""
    seconds: float
    """Sum over answered requests, from arrival to the last token."""
    adapter_loads: int = 0
    """How often a replica had to fetch, load and check the adapter for one of these requests."""
    adapter_load_seconds: float = 0.0
    """How long all of that took."""


class UsageRecord(Strict):
    """One interval of one server. A server's intervals follow each other without a gap."""

    server: str
    seq: int
    """0 for the server's first."""
    host: str
    user: str
    base_model: str
    """What clients call it."""
    base_digest: str
    price_usd_per_hour: float
    """Of one replica, pinned when the server started."""
    price_source: str
    price_date: date
    started_at: datetime
    ended_at: datetime
    replica_seconds: float
    """Replicas times seconds, including replicas that are starting or stopping."""
    busy_replica_seconds: float
    """The part of it with a request in progress; a request keeps one replica busy."""
    models: tuple[ModelCounts, ...]

    @property
    def cost_usd(self) -> float:
        """What the replicas cost in this interval, including idle ones."""
        return self.replica_seconds / 3600 * self.price_usd_per_hour

    @property
    def busy_usd(self) -> float:
        """The part of it spent on requests."""
        return min(self.busy_replica_seconds, self.replica_seconds) / 3600 * self.price_usd_per_hour


@dataclass(frozen=True)
class ModelUsage:
    """What one model was used for, over several intervals.

    Attributes:
        model: the base model's name, NAME@VERSION, `NO_MODEL` or `IDLE`.
        requests: all, including failed and refused ones.
        mean_seconds, mean_seconds_to_first_token: of answered requests; None where there was none.
        usd: its share of what the replicas cost.
        usd_per_million_tokens: over prompt and completion tokens together; None where there was no token.
    """

    model: str
    requests: int = 0
    failed: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    mean_seconds: float | None = None
    mean_seconds_to_first_token: float | None = None
    usd: float = 0.0
    usd_per_million_tokens: float | None = None


def new_server_id() -> str:
    """`YYYYMMDD-HHMMSS-xxxx`, in UTC, with four random hex digits."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def write_usage(store: Store, record: UsageRecord) -> None:
    """Append a record. Raises ConflictError where the server has already written this interval, and StoreError."""
    path = f"usage/{record.server}/{record.seq}.json"
    Record(store, path, UsageRecord).write(record)


def read_usage(store: Store) -> list[UsageRecord]:
    """All records of a store, in order by server. Raises StoreError where one is damaged."""
    paths = [path for path in store.walk("usage") if _PATH.fullmatch(path)]
    contents = store.read_many(paths)
    fix = "Move the file away; that interval is then not counted."
    records = [parse_record(store, path, contents[path], UsageRecord, fix=fix) for path in paths]
    return sorted(records, key=lambda record: (record.server, record.seq))


def usage_by_model(records: Iterable[UsageRecord]) -> list[ModelUsage]:
    """Usage and cost by model, the dearest first and idle time last.

    In each interval the busy replica time is shared by the seconds that the answered requests of each model took: a
    request that is in the engine's batches for twice as long has used twice as much of them. (By tokens, a long
    prompt, which is read at once, would pay as much as a long answer.)
    """
    sums: dict[str, _Sum] = {}
    idle_usd = 0.0
    for record in records:
        seconds = sum(counts.seconds for counts in record.models)
        busy_usd = record.busy_usd if seconds else 0.0
        idle_usd += record.cost_usd - busy_usd
        for counts in record.models:
            share = counts.seconds / seconds if seconds else 0.0
            sums.setdefault(counts.model or NO_MODEL, _Sum()).add(counts, share * busy_usd)
    models = [total.usage(model) for model, total in sums.items()]
    models.sort(key=lambda usage: (-usage.usd, usage.model))
    return [*models, ModelUsage(IDLE, usd=idle_usd)] if idle_usd > 0 else models


@dataclass
class _Sum:
    counts: list[ModelCounts] = field(default_factory=list)
    usd: float = 0.0

    def add(self, counts: ModelCounts, usd: float) -> None:
        self.counts.append(counts)
        self.usd += usd

    def usage(self, model: str) -> ModelUsage:
        requests = _total(self.counts, "requests")
        failed, refused = _total(self.counts, "failed"), _total(self.counts, "refused")
        prompt, completion = _total(self.counts, "prompt_tokens"), _total(self.counts, "completion_tokens")
        answered, tokens = requests - failed - refused, prompt + completion
        return ModelUsage(
            model=model,
            requests=requests,
            failed=failed,
            refused=refused,
            prompt_tokens=prompt,
            completion_tokens=completion,
            mean_seconds=sum(one.seconds for one in self.counts) / answered if answered else None,
            mean_seconds_to_first_token=(
                sum(one.seconds_to_first_token for one in self.counts) / answered if answered else None
            ),
            usd=self.usd,
            usd_per_million_tokens=self.usd / tokens * 1e6 if tokens else None,
        )


def _total(counts: Sequence[ModelCounts], name: str) -> int:
    return sum(getattr(one, name) for one in counts)
