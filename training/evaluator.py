"""Evaluation spread over a run's workers: each answers every n-th held-out row, the shards are merged in order."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.storage import Store, open_store
from registry.card import Canary
from runspec.run import RunSpec
from runspec.strict import Strict
from training.adapter_files import adapter_files
from training.board import Failable
from training.canary import record_canary
from training.data.chat import render_prompt
from training.data.example import Example
from training.evaluation.fewshot import pick_few_shot
from training.evaluation.general import continue_base, drift, general_prompts
from training.evaluation.generate import stop_token_ids
from training.evaluation.measure import measure, merge
from training.evaluation.results import Continuations, Drift, Measurement
from training.evaluation.scorers import build_scorers
from training.job import Event
from training.launcher import own_error, worker_log
from training.model import load_adapter, load_base, load_tokenizer, local_device, materialise
from training.output import redirect_output
from training.placement import Placement
from training.rows import read_examples

CANARY_PROMPTS = 4
"""Held-out prompts tried for the canary."""


class Before(Strict):
    """What was measured of the untuned model."""

    base: Measurement
    few_shot: Measurement | None
    continuations: list[Continuations]
    """The base model's own continuations of general prompts, a part from each worker."""


class After(Strict):
    """What was measured of the tuned model."""

    tuned: Measurement
    drift: Drift | None
    canary: Canary | None
