"""Reads the shape of a model from the header of its GGUF file: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

Not with the package gguf, which builds an array for every word of the vocabulary: 3 s for a header that takes 0.05 s
here, and a damaged length keeps it busy for minutes (docs/decisions/0011).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

from runspec.errors import ModelError

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""GGUF's types of a single number, and the format characters of `struct`."""
_STRING, _ARRAY = 8, 9
_MOST = 1 << 24
"""More values, tensors or characters than this mean a damaged file."""
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
"""Keys of config.json, and GGUF's names for them, which follow the name of the architecture."""
_FAMILIES = {"gemma3": "gemma3_text"}
"""Architectures with another name in config.json."""


def read_gguf_config(file: Path) -> dict[str, Any]:
    """What the model's config.json would say.

    Raises:
        ModelError: it is not a GGUF file, or its header is damaged.
    """
    try:
        with file.open("rb") as stream:
            values, tensors = _read_header(stream)
    except (OSError, struct.error, ValueError) as error:
        raise ModelError(
            f"Cannot read the header of `{file.name}`: {error}.",
            where=f"model.source.path: {file}",
            fix="Check that it is a GGUF file and that the download is complete.",
        ) from error
    architecture = str(values.get("general.architecture", ""))
    config = {key: values.get(f"{architecture}.{name}") for key, name in _CONFIG_KEYS.items()}
    config["model_type"] = _FAMILIES.get(architecture, architecture)
    config["vocab_size"] = tensors.get("token_embd.weight", (0,))[-1]
    config["tie_word_embeddings"] = "output.weight" not in tensors  # without a head of its own it uses the embeddings
    config["attention_bias"] = "blk.0.attn_q.bias" in tensors
    return config


def _read_header(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Metadata by key (arrays, which are vocabularies, as None), and the dimensions of each tensor by name."""
    if stream.read(4) != b"GGUF":
        raise ValueError("it does not start with `GGUF`")
    version = _number(stream, "I")
    if version not in (2, 3):
        raise ValueError(f"it has GGUF version {version}; only 2 and 3 are supported")
    tensors, count = _length(stream), _length(stream)
    values = {_text(stream): _value(stream, _number(stream, "I")) for _ in range(count)}
    shapes = {}
    for _ in range(tensors):
        name = _text(stream)
        shapes[name] = tuple(_number(stream, "Q") for _ in range(_number(stream, "I")))
        stream.read(12)  # its type and its offset
    return values, shapes


def _value(stream: BinaryIO, kind: int) -> Any:
    if kind in _NUMBERS:
        return _number(stream, _NUMBERS[kind])
    if kind == _STRING:
        return _text(stream)
    if kind != _ARRAY:
        raise ValueError(f"it has a value of unknown type {kind}")
    inner, count = _number(stream, "I"), _length(stream)
    if inner in _NUMBERS:
        stream.seek(count * struct.calcsize(f"<{_NUMBERS[inner]}"), 1)
        return None
    for _ in range(count):
        if inner == _STRING:
            stream.seek(_length(stream), 1)
        else:
            _value(stream, inner)
    return None


def _text(stream: BinaryIO) -> str:
    return stream.read(_length(stream)).decode("utf-8", "replace")


def _length(stream: BinaryIO) -> int:
    length: int = _number(stream, "Q")
    if length > _MOST:
        raise ValueError(f"it claims a length of {length:,}")
    return length


def _number(stream: BinaryIO, form: str) -> Any:
    return struct.unpack(f"<{form}", stream.read(struct.calcsize(f"<{form}")))[0]
