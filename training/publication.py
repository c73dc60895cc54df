"""Publishing a run's adapter: the card, the version, the alias."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from registry.adapters import Registry
from registry.card import AdapterCard, Canary, ScoreEntry
from runspec.errors import RegistryError
from runspec.run import RunSpec
from runspec.strict import Strict
from training.curated import CuratedRun
from training.evaluation.results import EvaluationResult
from training.model import materialise


class Publication(Strict):
    """Where a run's adapter was published."""

    adapter: str
    version: int
    alias: str | None
    """The alias that points to it now; None where none was to be moved, or another publisher moved it first."""
    path: str
    """Its folder, below the store's root."""
