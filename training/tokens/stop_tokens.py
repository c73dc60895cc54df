"""The tokens at which generation ends: a template must train one, or the tuned model never stops."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any


def stop_token_ids(tokenizer: Any) -> list[int]:
    """What the server stops on, sorted; training, evaluation and the canary use the same.

    vLLM stops on the tokenizer's end of sequence and on `eos_token_id` of generation_config.json in the model's folder,
    or of config.json where there is no such file (`SamplingParams.update_from_generation_config`).
    """
    eos = tokenizer.eos_token_id
    configured = _configured(str(getattr(tokenizer, "name_or_path", "")))
    return sorted(configured | ({eos} if eos is not None else set()))


@lru_cache(maxsize=8)
def _configured(folder: str) -> frozenset[int]:
    for name in ("generation_config.json", "config.json"):
        file = Path(folder) / name
        if folder and file.is_file():
            settings = json.loads(file.read_text(encoding="utf-8"))
            value = settings.get("eos_token_id", settings.get("text_config", {}).get("eos_token_id"))
            return frozenset(value if isinstance(value, list) else [] if value is None else [value])
    return frozenset()
