"""The smallest adapter that the registry takes, and its card."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from registry.card import CardDraft


def write_adapter(folder: Path, *, size: int = 16, fill: bytes = b"\1", **config: Any) -> Path:
    """A LoRA adapter with one tensor of `size` bytes."""
    folder.mkdir(exist_ok=True)
    header = json.dumps({"lora_A.weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + fill * size)
    written = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], **config}
    (folder / "adapter_config.json").write_text(json.dumps(written))
    return folder


def draft(**changes: Any) -> CardDraft:
    """A card that says what `write_adapter` writes, but for what is given."""
    values: dict[str, Any] = {
        "base_model": "tiny",
        "base_digest": "folder:abc",
        "base_kind": "folder",
        "rank": 8,
        "alpha": 16,
        "targets": ["q_proj"],
        "rslora": False,
        "method": "sft",
        "run_id": "",
        "data_digest": "",
    }
    return CardDraft(**(values | changes))
