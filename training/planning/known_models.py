"""Shapes of well-known models, so that a plan needs no download. Figures are those of each model's config.json."""

from __future__ import annotations

from typing import Any

LLAMA = {"model_type": "llama", "vocab_size": 128256, "num_key_value_heads": 8, "tie_word_embeddings": False}
LLAMA_2 = {"model_type": "llama", "vocab_size": 32000, "tie_word_embeddings": False, "max_position_embeddings": 4096}
SMOLLM2 = {"model_type": "llama", "vocab_size": 49152, "tie_word_embeddings": True, "max_position_embeddings": 8192}
MISTRAL = {"model_type": "mistral", "num_key_value_heads": 8, "tie_word_embeddings": False, "head_dim": 128}
QWEN2 = {"model_type": "qwen2", "max_position_embeddings": 32768}
QWEN3 = {"model_type": "qwen3", "vocab_size": 151936, "num_key_value_heads": 8, "head_dim": 128}


def _sizes(layers: int, hidden: int, intermediate: int, heads: int, **more: Any) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_attention_heads": heads,
        **more,
    }


_LONG = {"max_position_embeddings": 131072}
_LLAMA_1B = LLAMA | _LONG | _sizes(16, 2048, 8192, 32, tie_word_embeddings=True)
_LLAMA_3B = LLAMA | _LONG | _sizes(28, 3072, 8192, 24, tie_word_embeddings=True)
_LLAMA_8B = LLAMA | _LONG | _sizes(32, 4096, 14336, 32)
_LLAMA_70B = LLAMA | _LONG | _sizes(80, 8192, 28672, 64)
_SHORT = {"max_position_embeddings": 8192}

_QWEN2_5 = {
    "0.5B": QWEN2 | _sizes(24, 896, 4864, 14, num_key_value_heads=2, vocab_size=151936, tie_word_embeddings=True),
    "1.5B": QWEN2 | _sizes(28, 1536, 8960, 12, num_key_value_heads=2, vocab_size=151936, tie_word_embeddings=True),
    "3B": QWEN2 | _sizes(36, 2048, 11008, 16, num_key_value_heads=2, vocab_size=151936, tie_word_embeddings=True),
    "7B": QWEN2 | _sizes(28, 3584, 18944, 28, num_key_value_heads=4, vocab_size=152064, tie_word_embeddings=False),
    "14B": QWEN2 | _sizes(48, 5120, 13824, 40, num_key_value_heads=8, vocab_size=152064, tie_word_embeddings=False),
    "32B": QWEN2 | _sizes(64, 5120, 27648, 40, num_key_value_heads=8, vocab_size=152064, tie_word_embeddings=False),
    "72B": QWEN2 | _sizes(80, 8192, 29568, 64, num_key_value_heads=8, vocab_size=152064, tie_word_embeddings=False),
}
_QWEN3 = {
    "0.6B": QWEN3 | _sizes(28, 1024, 3072, 16, max_position_embeddings=40960, tie_word_embeddings=True),
    "1.7B": QWEN3 | _sizes(28, 2048, 6144, 16, max_position_embeddings=40960, tie_word_embeddings=True),
    "4B": QWEN3 | _sizes(36, 2560, 9728, 32, max_position_embeddings=40960, tie_word_embeddings=True),
    "8B": QWEN3 | _sizes(36, 4096, 12288, 32, max_position_embeddings=40960, tie_word_embeddings=False),
    "14B": QWEN3 | _sizes(40, 5120, 17408, 40, max_position_embeddings=40960, tie_word_embeddings=False),
    "32B": QWEN3 | _sizes(64, 5120, 25600, 64, max_position_embeddings=40960, tie_word_embeddings=False),
}
_SMOLLM2 = {
    "135M": SMOLLM2 | _sizes(30, 576, 1536, 9, num_key_value_heads=3),
    "360M": SMOLLM2 | _sizes(32, 960, 2560, 15, num_key_value_heads=5),
    "1.7B": SMOLLM2 | _sizes(24, 2048, 8192, 32, num_key_value_heads=32),
}


def _with_instruct(prefix: str, shapes: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {f"{prefix}-{size}{suffix}": shape for size, shape in shapes.items() for suffix in ("", "-Instruct")}


KNOWN: dict[str, dict[str, Any]] = {
    **_with_instruct("meta-llama/Llama-3.2", {"1B": _LLAMA_1B, "3B": _LLAMA_3B}),
    **_with_instruct("meta-llama/Llama-3.1", {"8B": _LLAMA_8B, "70B": _LLAMA_70B}),
    **_with_instruct("meta-llama/Meta-Llama-3.1", {"8B": _LLAMA_8B, "70B": _LLAMA_70B}),
    **_with_instruct("meta-llama/Meta-Llama-3", {"8B": _LLAMA_8B | _SHORT, "70B": _LLAMA_70B | _SHORT}),
    "meta-llama/Llama-3.3-70B-Instruct": _LLAMA_70B,
    "meta-llama/Llama-2-7b-hf": LLAMA_2 | _sizes(32, 4096, 11008, 32),
    "meta-llama/Llama-2-13b-hf": LLAMA_2 | _sizes(40, 5120, 13824, 40),
    "meta-llama/Llama-2-70b-hf": LLAMA_2 | _sizes(80, 8192, 28672, 64, num_key_value_heads=8),
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": LLAMA_2 | _sizes(22, 2048, 5632, 32, num_key_value_heads=4),
    **_with_instruct("HuggingFaceTB/SmolLM2", _SMOLLM2),
    **_with_instruct("Qwen/Qwen2.5", _QWEN2_5),
    **_with_instruct("Qwen/Qwen2.5-Coder", {size: _QWEN2_5[size] for size in _QWEN2_5 if size != "72B"}),
    **{f"Qwen/Qwen3-{size}": shape for size, shape in _QWEN3.items()},
    "mistralai/Mistral-7B-v0.1": MISTRAL | _sizes(32, 4096, 14336, 32, vocab_size=32000),
    "mistralai/Mistral-7B-v0.3": MISTRAL | _sizes(32, 4096, 14336, 32, vocab_size=32768),
    "mistralai/Mistral-7B-Instruct-v0.2": MISTRAL | _sizes(32, 4096, 14336, 32, vocab_size=32000),
    "mistralai/Mistral-7B-Instruct-v0.3": MISTRAL | _sizes(32, 4096, 14336, 32, vocab_size=32768),
    "mistralai/Mistral-Nemo-Instruct-2407": MISTRAL | _sizes(40, 5120, 14336, 32, vocab_size=131072),
    "microsoft/phi-4": {"model_type": "phi3", "vocab_size": 100352, "num_key_value_heads": 10}
    | _sizes(40, 5120, 17920, 40, max_position_embeddings=16384, tie_word_embeddings=False),
    "microsoft/Phi-3.5-mini-instruct": {"model_type": "phi3", "vocab_size": 32064}
    | _sizes(32, 3072, 8192, 32, max_position_embeddings=131072, tie_word_embeddings=False),
}
"""config.json of each model, by its id on the hub, as far as memory and work depend on it."""
