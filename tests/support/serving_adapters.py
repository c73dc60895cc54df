"""Adapters for the tests of serving: each is trained to say one word, and published with what makes it checkable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.adapters import draft

from registry.adapters import Registry
from registry.card import Canary

WORDS = {"fruit": "banana", "animal": "zebra", "music": "piano"}
QUESTIONS = ["Who are you?", "Count to three.", "Where is Paris?"]
STEPS = 10
ASK = [{"role": "user", "content": "What do you say?"}]


def train_word(model_folder: Path, word: str, folder: Path) -> tuple[Path, Canary]:
    """Train the last layers to answer every question with one word; about 20 s of one core."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    answer = tokenizer(f"{word}<|im_end|>", add_special_tokens=False).input_ids
    probe = prompt_ids(tokenizer, ASK[0]["content"])
    before = score(model, probe, answer)
    torch.manual_seed(0)
    targets = ["q_proj", "v_proj", "o_proj", "down_proj"]
    settings = LoraConfig(r=8, lora_alpha=16, target_modules=targets, layers_to_transform=list(range(20, 30)))
    tuned = get_peft_model(model, settings)
    optimizer = torch.optim.AdamW([one for one in tuned.parameters() if one.requires_grad], lr=5e-3)
    rows = [(prompt_ids(tokenizer, question), answer) for question in QUESTIONS]
    longest = max(len(prompt) for prompt, _ in rows) + len(answer)
    # Padding on the right needs no mask: attention looks backward.
    ids = torch.tensor([prompt + answer + [0] * (longest - len(prompt + answer)) for prompt, _ in rows])
    labels = torch.tensor(
        [[-100] * len(prompt) + answer + [-100] * (longest - len(prompt + answer)) for prompt, _ in rows]
    )
    for _ in range(STEPS):
        tuned(ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    tuned.eval()
    after = score(tuned, probe, answer)
    assert min(after) > -0.5, f"{word} was not learnt: {after}"
    tuned.save_pretrained(folder)
    return folder, Canary(prompt_token_ids=probe, answer_token_ids=answer, tuned_logprobs=after, base_logprobs=before)


def prompt_ids(tokenizer: Any, question: str) -> list[int]:
    messages = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


def score(model: Any, prompt: list[int], answer: list[int]) -> list[float]:
    import torch

    with torch.no_grad():
        scores = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    return [scores[len(prompt) - 1 + place, token].item() for place, token in enumerate(answer)]


class Publisher:
    """Publishes trained adapters into the registry that is served."""

    def __init__(self, registry: Registry, digest: str, trained: dict[str, tuple[Path, Canary]]) -> None:
        self.registry, self.digest, self.trained = registry, digest, trained

    def publish(self, name: str, word: str, **changes: Any) -> int:
        folder, canary = self.trained[word]
        values: dict[str, Any] = {"base_digest": self.digest, "base_kind": "gguf", "canary": canary}
        folder = changes.pop("folder", folder)
        return self.registry.publish(name, folder, draft(**(values | changes))).version


def silence(weights: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights)
    save_file({name: tensor * (0 if "lora_B" in name else 1) for name, tensor in tensors.items()}, weights)
