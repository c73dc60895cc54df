"""The shape of a model in a GGUF file, read from its header alone.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

from runspec.errors import ModelError

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Types of values that are one number, and how `struct` writes them."""
_STRING, _ARRAY = 8, 9
_MOST = 1 << 24
"""More values, tensors or characters than this are a sign of a damaged file."""
_CONFIG_KEYS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
    "num_experts": "expert_count",
}
"""Keys of config.json, and what GGUF calls them after the name of the architecture."""
_FAMILIES = {"gemma3": "gemma3_text"}
"""Architectures that config.json calls otherwise."""
HEAD = "output.weight"
"""The head's tensor; a file without it shares the embeddings with the head."""


def read_gguf_config(file: Path) -> dict[str, Any]:
    """What a config.json of the model in a GGUF file would say.

    Raises:
        ModelError: it is no GGUF file, or its header is damaged.
    """
    try:
        with file.open("rb") as stream:
            values, tensors = _read_header(stream)
    except (OSError, struct.error, ValueError) as error:
        raise ModelError(
            f"The header of {file.name} cannot be read: {error}.",
            where=f"model.source.path: {file}",
            fix="Check that it is a GGUF file and that the download is whole.",
        ) from error
    architecture = str(values.get("general.architecture", ""))
    config = {key: values.get(f"{architecture}.{name}") for key, name in _CONFIG_KEYS.items()}
    config["model_type"] = _FAMILIES.get(architecture, architecture)
    config["vocab_size"] = tensors.get("token_embd.weight", (0, 0))[-1]
    config["tie_word_embeddings"] = HEAD not in tensors
    config["attention_bias"] = "blk.0.attn_q.bias" in tensors
    return config


def _read_header(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Metadata by key (arrays as None, being vocabularies), and the dimensions of each tensor by its name."""
    if stream.read(4) != b"GGUF":
        raise ValueError("it does not start with `GGUF`")
    version = _number(stream, "I")
    if version not in (2, 3):
        raise ValueError(f"it is of GGUF version {version}, and 2 and 3 are known")
    tensors, count = _size(stream), _size(stream)
    values = {}
    for _ in range(count):
        key = _text(stream)
        values[key] = _value(stream, _number(stream, "I"))
    shapes = {}
    for _ in range(tensors):
        name = _text(stream)
        shapes[name] = tuple(_number(stream, "Q") for _ in range(_number(stream, "I")))
        stream.read(12)  # its type and where it begins
    return values, shapes


def _value(stream: BinaryIO, kind: int) -> Any:
    if kind in _NUMBERS:
        return _number(stream, _NUMBERS[kind])
    if kind == _STRING:
        return _text(stream)
    if kind != _ARRAY:
        raise ValueError(f"it has a value of the unknown type {kind}")
    inner, count = _number(stream, "I"), _size(stream)
    if inner in _NUMBERS:
        stream.seek(count * struct.calcsize(f"<{_NUMBERS[inner]}"), 1)
    else:
        for _ in range(count):
            if inner == _STRING:
                stream.seek(_size(stream), 1)
            else:
                _value(stream, inner)
    return None


def _text(stream: BinaryIO) -> str:
    return stream.read(_size(stream)).decode("utf-8", "replace")


def _size(stream: BinaryIO) -> int:
    size: int = _number(stream, "Q")
    if size > _MOST:
        raise ValueError(f"it tells of {size:,} values at one place")
    return size


def _number(stream: BinaryIO, form: str) -> Any:
    size = struct.calcsize(f"<{form}")
    return struct.unpack(f"<{form}", stream.read(size))[0]
