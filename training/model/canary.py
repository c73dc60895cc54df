"""The canary of an adapter: a prompt and an answer with the log-probabilities that the trained model gave.

Serving replays it, which catches an adapter that loads but has no effect (vLLM issue 34186 reports one).
"""

from __future__ import annotations

from typing import Any

import torch

from registry.card import Canary

ANSWER_TOKENS = 24
"""Enough for the tuned and the base model to differ clearly, few enough to score quickly."""


def record_canary(model: Any, prompts: list[list[int]], stop_ids: list[int]) -> Canary | None:
    """Of the prompts' answers, the one on which a PEFT model is furthest from its base; None without a prompt."""
    return max((_take(model, prompt, stop_ids) for prompt in prompts), key=_distance, default=None)


def _take(model: Any, prompt: list[int], stop_ids: list[int]) -> Canary:
    ids = torch.tensor([prompt], device=model.device)
    with torch.inference_mode():
        whole = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=ANSWER_TOKENS,
            do_sample=False,
            eos_token_id=stop_ids,
            pad_token_id=stop_ids[0],
        )[0].tolist()
    answer = whole[len(prompt) :]
    tuned = _logprobs(model, prompt, answer)
    with model.disable_adapter():
        base = _logprobs(model, prompt, answer)
    return Canary(prompt_token_ids=prompt, answer_token_ids=answer, tuned_logprobs=tuned, base_logprobs=base)


def _logprobs(model: Any, prompt: list[int], answer: list[int]) -> list[float]:
    ids = torch.tensor([prompt + answer], device=model.device)
    with torch.inference_mode():
        logits_TV = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float()
    picked = torch.log_softmax(logits_TV, dim=-1).gather(1, ids[0, len(prompt) :, None])
    return [float(value) for value in picked[:, 0]]


def _distance(canary: Canary) -> float:
    pairs = zip(canary.tuned_logprobs, canary.base_logprobs, strict=True)
    return sum(abs(tuned - base) for tuned, base in pairs) / max(1, len(canary.answer_token_ids))
