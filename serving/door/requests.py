"""Requests that must not reach the engine, whatever they ask."""

from __future__ import annotations

from typing import Any


def asks_for_prompt_logprobs(body: Any) -> bool:
    """Whether a chat or completion request makes vLLM score the prompt's own tokens.

    With adapters on, vLLM computes those with the adapters of other rows of the batch: the values may be another
    tenant's, and on CPU the engine dies (https://github.com/vllm-project/vllm/issues/16668, open; seen with 0.32). It
    does so for `prompt_logprobs`, and for `echo` with log-probabilities, which in a chat request default to 0 and
    not to none.
    """
    if getattr(body, "prompt_logprobs", None) is not None:
        return True
    depth = body.top_logprobs if hasattr(body, "top_logprobs") else getattr(body, "logprobs", None)
    return bool(getattr(body, "echo", False)) and depth is not None
