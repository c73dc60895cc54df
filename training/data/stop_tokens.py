"""The tokens at which generation ends: a template has to train them, or the tuned model never stops."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any


def stop_token_ids(tokenizer: Any) -> frozenset[int]:
    """The tokenizer's end of sequence, and what the settings beside it in the model's folder name.

    Engines stop on just these: transformers and vLLM read `eos_token_id` of generation_config.json, or of config.json
    where there is no such file.
    """
    eos = tokenizer.eos_token_id
    return _configured(str(getattr(tokenizer, "name_or_path", ""))) | ({eos} if eos is not None else set())


@lru_cache(maxsize=8)
def _configured(folder: str) -> frozenset[int]:
    for name in ("generation_config.json", "config.json"):
        file = Path(folder) / name
        if folder and file.is_file():
            value = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
            return frozenset(value if isinstance(value, list) else [] if value is None else [value])
    return frozenset()
