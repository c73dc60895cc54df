"""The few-shot baseline's prompts, and how rows are shared."""

import pytest

from runspec.errors import SpecError
from runspec.evaluation import GeneralSpec
from training.data.example import Example
from training.evaluation.fewshot import pick_few_shot, with_shots
from training.evaluation.general import built_in_prompts, first_user_text, general_prompts
from training.evaluation.sharding import interleave, shard


def example(number: int, reference: str | None = None, text: str | None = None) -> Example:
    messages = (
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": f"q{number}"},
        {"role": "assistant", "content": reference or f"a{number}"},
    )
    return Example(() if text else messages, text, origin=f"rows:{number}")


def test_the_draw_does_not_depend_on_the_order_of_rows():
    rows = [example(number) for number in range(30)]
    first = pick_few_shot(rows, 4, seed=1)
    assert first == pick_few_shot(rows[::-1], 4, seed=1)
    assert first != pick_few_shot(rows, 4, seed=2)
    assert len(first) == 4


def test_different_answers_come_first():
    rows = [example(number, "yes") for number in range(20)] + [example(99, "no")]
    assert {shot.reference for shot in pick_few_shot(rows, 2)} == {"yes", "no"}
    assert len(pick_few_shot(rows, 5)) == 5


def test_plain_text_gives_no_shot():
    assert pick_few_shot([example(1, text="words")], 4) == []


def test_shots_are_earlier_turns_after_the_system_message():
    found = with_shots(example(1).prompt, [example(2), example(3)])
    assert [message["role"] for message in found] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [message["content"] for message in found] == ["be brief", "q2", "a2", "q3", "a3", "q1"]
    assert with_shots([{"role": "user", "content": "x"}], []) == [{"role": "user", "content": "x"}]


@pytest.mark.parametrize(("rows", "workers"), [(7, 2), (3, 5), (0, 2), (8, 1)])
def test_shards_come_back_in_order(rows, workers):
    assert interleave([shard(range(rows), rank, workers) for rank in range(workers)]) == list(range(rows))


def test_parts_that_are_no_shards_are_refused():
    with pytest.raises(ValueError, match="not shards"):
        interleave([[1], [2, 3]])


def test_built_in_prompts_are_many_and_different():
    prompts = built_in_prompts()
    assert len(prompts) == len(set(prompts)) == 64
    assert len(general_prompts(GeneralSpec(), None)) == 32
    with pytest.raises(SpecError, match="there are only 64 built-in prompts"):
        general_prompts(GeneralSpec(prompts=65), None)


def test_own_prompts_from_any_layout(tmp_path):
    (tmp_path / "p.jsonl").write_text(
        '{"text": "one"}\n{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "two"}]}\n'
    )
    source = {"kind": "file", "path": "p.jsonl"}
    spec = GeneralSpec.model_validate({"prompts": 2, "source": source})
    assert general_prompts(spec, tmp_path) == ["one", "two"]
    assert first_user_text({"conversations": [{"from": "human", "value": "hi"}]}) == "hi"
    assert first_user_text({"prompt": "p"}) == "p"
    assert first_user_text({"other": 1}) is None


def test_only_the_last_answer_counts_for_the_loss():
    from training.evaluation.measure import last_run

    assert last_run([-100, 1, 2, -100, 3, 4, -100]) == [-100, -100, -100, -100, 3, 4, -100]
    assert last_run([7, 8]) == [7, 8]
