"""The card of an adapter version: what it is, what it was made from, how well it does, what it cost."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from runspec.strict import Strict

SCHEMA_VERSION = 1


class Canary(Strict):
    """A prompt and an answer with the log-probabilities (natural) of each answer token under both models."""

    prompt_token_ids: list[int]
    answer_token_ids: list[int]
    tuned_logprobs: list[float]
    base_logprobs: list[float]


class ScoreEntry(Strict):
    """One metric on the run's hold-out, before and after."""

    before: float | None
    """Mean of the untuned model; null where it was not measured."""
    after: float
    """Mean of the tuned model."""
    gain: float | None
    """Paired by example; positive is better."""
    low: float | None
    """Lower end of the gain's 95 % interval."""
    high: float | None
    """Upper end."""
    n: int
    """Examples."""


class CardDraft(Strict):
    """What the publisher says of a version."""

    base_model: str
    """What a person calls the base model."""
    base_digest: str
    """Identifies its weights; serving compares it with its own base model's."""
    base_kind: str
    """hub, folder or gguf."""
    rank: int
    alpha: float
    targets: list[str]
    rslora: bool
    method: str
    """sft, dpo, ..."""
    run_id: str
    """The run it came from; empty for an adapter published from a folder."""
    data_digest: str
    """Of the rows it was trained on; empty where unknown."""
    scores: dict[str, ScoreEntry] = Field(default_factory=dict)
    cost_usd: float | None = None
    """What the run had cost when it published."""
    canary: Canary | None = None


class AdapterCard(CardDraft):
    """The card of a published version; written last, never changed."""

    schema_version: int = SCHEMA_VERSION
    adapter: str
    version: int
    weights_sha256: str
    config_sha256: str
    created_at: datetime
