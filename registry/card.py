"""The adapter card: what an adapter is, how it was made and scored, and the canary that shows that it works."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field, model_validator

from runspec.publish import NAME_PATTERN
from runspec.strict import Strict

SCHEMA_VERSION = 1


class Canary(Strict):
    """A prompt and an answer, scored after training: serving replays it before a replica answers."""

    prompt_token_ids: list[int]
    answer_token_ids: list[int]
    tuned_logprobs: list[float]
    """Natural-log probability of each answer token under the tuned model."""
    base_logprobs: list[float]
    """The same under the base model."""

    @model_validator(mode="after")
    def _one_logprob_a_token(self) -> Canary:
        lengths = {len(self.answer_token_ids), len(self.tuned_logprobs), len(self.base_logprobs)}
        if len(lengths) != 1:
            raise ValueError(f"a canary needs one log-probability for each answer token, not {sorted(lengths)}")
        return self


class ScoreEntry(Strict):
    """One metric on the hold-out."""

    before: float | None
    """Of what the run started from: the base model or another adapter. Null if it was not measured."""
    after: float
    """Of the tuned model."""
    gain: float | None
    """Mean difference, paired by example; positive is better."""
    n: int
    """Examples measured."""
    low: float | None
    """Lower end of the gain's 95 % bootstrap interval."""
    high: float | None
    """Upper end of it."""


class CardDraft(Strict):
    """What the publisher knows about an adapter. The registry adds the rest."""

    base_model: str
    """Hub id, path or package file of the base model."""
    base_digest: str
    """sha256 over the base model's weights."""
    base_kind: str
    """hub, folder or gguf."""
    rank: int = Field(ge=1)
    alpha: float
    targets: list[str]
    """Modules that carry LoRA weights."""
    rslora: bool
    method: str
    """sft, dpo, orpo or kto."""
    run_id: str
    """Empty for an adapter published from a folder."""
    data_digest: str
    """sha256 over the training data and its split; empty if unknown."""
    scores: dict[str, ScoreEntry] = Field(default_factory=dict)
    cost_usd: float = 0.0
    """What the run cost until the adapter was published; 0 without a run."""
    canary: Canary | None = None


class AdapterCard(CardDraft):
    """card.json of a version. It is written last: a version without one does not exist."""

    schema_version: Literal[1] = 1
    adapter: str = Field(pattern=NAME_PATTERN)
    version: int = Field(ge=1)
    weights_sha256: str
    """Of adapter_model.safetensors."""
    config_sha256: str
    """Of adapter_config.json, whose alpha scales the weights."""
    created_at: datetime
    created_by: str
    """user@host."""
