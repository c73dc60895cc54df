"""Where an answer ends: masking, evaluation, drift and canary stop where the server stops, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from runspec.evaluation import EvaluationSpec
from runspec.lora import LoraSpec
from training.data.example import Example
from training.evaluation.general import continue_base
from training.evaluation.measure import measure
from training.evaluation.scorers import build_scorers
from training.model.canary import record_canary
from training.model.lora import attach_adapter
from training.tokens.chat import IGNORED, tokenize
from training.tokens.stop_tokens import stop_token_ids

WORDS = ["<unk>", "<end>", "<turn>", "<stop>", "ask", "say", "yes", "go"]
END, TURN, STOP, YES, GO = (WORDS.index(word) for word in ("<end>", "<turn>", "<stop>", "yes", "go"))
TEMPLATE = (
    "{% for m in messages %}{{ ('ask ' if m.role == 'user' else 'say ') + m.content + '<turn>' }}"
    "{% if m.role == 'assistant' %}{{ '<stop>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'say ' }}{% endif %}"
)
"""Ends each turn in a special token that no settings list, and what the assistant says in one that they do."""


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    """Of a model whose generation settings list another token than the tokenizer's end of sequence."""
    words = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        eos_token="<end>",
        pad_token="<end>",
        additional_special_tokens=["<turn>", "<stop>"],
    )
    made.chat_template = TEMPLATE
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [STOP]}))
    made.name_or_path = str(tmp_path)
    return made


@pytest.fixture
def model() -> Any:
    """Says: yes <turn> go <stop>, whatever it is asked."""
    settings = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(**settings, vocab_size=len(WORDS), max_position_embeddings=64)
    made = attach_adapter(LlamaForCausalLM(config).eval(), LoraSpec(), seed=0)
    made.generation_config.eos_token_id = [STOP]
    following = torch.full((len(WORDS),), YES)
    following[[YES, TURN, GO]] = torch.tensor([TURN, GO, STOP])

    def script(_module: Any, _args: Any, options: dict[str, Any], output: Any) -> Any:
        next_BT = following[options["input_ids"]][:, -output.logits.shape[1] :]
        output.logits = torch.nn.functional.one_hot(next_BT, len(WORDS)).float() * 9
        return output

    made.get_base_model().register_forward_hook(script, with_kwargs=True)
    return made


def test_the_list_is_what_the_server_stops_on(tokenizer: Any) -> None:
    assert stop_token_ids(tokenizer) == [END, STOP]


def test_without_generation_settings_the_models_own_count(tokenizer: Any, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"text_config": {"eos_token_id": TURN}}))
    tokenizer.name_or_path = str(folder)
    assert stop_token_ids(tokenizer) == [END, TURN]


def test_an_answer_is_trained_up_to_where_the_server_stops(tokenizer: Any) -> None:
    rows = ({"role": "user", "content": "go"}, {"role": "assistant", "content": "yes"})
    (piece,) = tokenize(Example(messages=rows), tokenizer, max_length=64, too_long="drop").pieces
    assert [label for label in piece.labels if label != IGNORED] == [YES, TURN, STOP]


def test_evaluation_drift_and_canary_stop_where_the_server_does(tokenizer: Any, model: Any) -> None:
    said = [YES, TURN, GO, STOP]
    rows = [Example(messages=({"role": "user", "content": "go"}, {"role": "assistant", "content": "yes"}))]
    spec = EvaluationSpec(max_new_tokens=8)
    measured = measure(model, tokenizer, rows, spec, build_scorers(spec.scorers, Path()))
    assert (measured.tokens_generated, measured.cut_short) == (len(said), [False])
    assert continue_base(model, tokenizer, ["go"], 8).answer_token_ids == [said]
    prompt = tokenizer("ask go <turn> say").input_ids
    canary = record_canary(model, [prompt], stop_token_ids(tokenizer))
    assert canary is not None
    assert canary.answer_token_ids == said
