"""Scorers: what an answer is worth, and what is refused before a model is loaded."""

import json
import pickle

import pytest

from runspec.errors import DataError, SpecError
from runspec.evaluation import (
    Contains,
    CustomScorer,
    ExactMatch,
    HoldoutLoss,
    JsonMatch,
    LabelAccuracy,
    RegexMatch,
)
from training.data.example import Example
from training.evaluation.scorers import build_scorers, check_references, score_answers


def example(reference: str, *, text: str | None = None, row: int = 1) -> Example:
    messages = ({"role": "user", "content": "q"}, {"role": "assistant", "content": reference})
    return Example(() if text else messages, text, origin=f"rows.jsonl:{row}")


def scored(scorer, answer, reference, folder):
    [built] = build_scorers([scorer], folder)
    return built.score([{"role": "user", "content": "q"}], answer, reference)


def test_exact_match_forgives_white_space_at_the_ends_only(tmp_path):
    assert scored(ExactMatch(), " on \n", "on", tmp_path) == {"exact_match": 1.0}
    assert scored(ExactMatch(), "On", "on", tmp_path) == {"exact_match": 0.0}


@pytest.mark.parametrize(
    ("answer", "valid", "equal"),
    [
        ('{"a": 1, "b": [true]}', 1, 1),
        ('{"b": [true], "a": 1.0}', 1, 1),
        ('{"a": 1, "b": [1]}', 1, 0),
        ('{"a": true, "b": [true]}', 1, 0),
        ('{"a": 1}', 1, 0),
        ("[]", 1, 0),
        ('{"a": NaN, "b": [true]}', 0, 0),
        ('```json\n{"a": 1, "b": [true]}\n```', 0, 0),
        ('{"a": 1, "b": [true]} and more', 0, 0),
        ("", 0, 0),
        ("[" * 100_000, 0, 0),
        ("9" * 10_000, 0, 0),
    ],
)
def test_json(answer, valid, equal, tmp_path):
    found = scored(JsonMatch(), answer, '{"a": 1, "b": [true]}', tmp_path)
    assert found == {"json_valid": valid, "json_equal": equal}


def test_json_fields_one_by_one(tmp_path):
    scorer = JsonMatch(fields=("intent", "area", "level"))
    found = scored(scorer, '{"intent": "on", "level": 3}', '{"intent": "on", "area": "hall"}', tmp_path)
    assert [found[f"json_field_{name}"] for name in scorer.fields] == [1.0, 0.0, 0.0]


def test_json_schema_decides_what_is_valid(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps({"type": "object", "required": ["intent"]}))
    scorer = JsonMatch(schema_path="s.json")
    assert scored(scorer, "{}", '{"intent": 1}', tmp_path)["json_valid"] == 0
    assert scored(scorer, '{"intent": 2}', '{"intent": 1}', tmp_path)["json_valid"] == 1


def test_labels(tmp_path):
    scorer = LabelAccuracy(labels=("Positive", "Negative"))
    assert scored(scorer, " positive ", "Positive", tmp_path) == {"label_accuracy": 1.0, "label_valid": 1.0}
    assert scored(scorer, "negative", "Positive", tmp_path) == {"label_accuracy": 0.0, "label_valid": 1.0}
    assert scored(scorer, "positive, I think", "Positive", tmp_path) == {"label_accuracy": 0.0, "label_valid": 0.0}


def test_regex_and_contains(tmp_path):
    assert scored(RegexMatch(pattern=r"\b4\d\b"), "it is 42.", "", tmp_path) == {"regex": 1.0}
    assert scored(Contains(), "It is Paris.", "paris", tmp_path) == {"contains": 0.0}
    assert scored(Contains(ignore_case=True), "It is Paris.", " paris", tmp_path) == {"contains": 1.0}


def test_loss_looks_at_no_answers(tmp_path):
    assert build_scorers([HoldoutLoss()], tmp_path) == []


def refused(scorer, folder):
    with pytest.raises(SpecError) as caught:
        build_scorers((scorer,), folder)
    assert caught.value.where
    assert caught.value.fix
    return caught.value.what


def test_schema_that_is_missing_or_wrong(tmp_path):
    assert "nothing.json" in refused(JsonMatch(schema_path="nothing.json"), tmp_path)
    (tmp_path / "bad.json").write_text("{")
    assert "cannot be read as JSON" in refused(JsonMatch(schema_path="bad.json"), tmp_path)
    (tmp_path / "odd.json").write_text('{"type": "objekt"}')
    assert "not a valid JSON Schema" in refused(JsonMatch(schema_path="odd.json"), tmp_path)
    (tmp_path / "list.json").write_text("[1]")
    assert "list.json" in refused(JsonMatch(schema_path="list.json"), tmp_path)


def test_schema_never_reaches_for_the_network(tmp_path):
    (tmp_path / "s.json").write_text('{"$ref": "https://example.org/schema.json"}')
    with pytest.raises(SpecError, match="cannot be applied"):
        scored(JsonMatch(schema_path="s.json"), "{}", "{}", tmp_path)


def test_labels_that_are_alike(tmp_path):
    assert "Two labels are the same: yes, Yes." in refused(LabelAccuracy(labels=("yes", "Yes")), tmp_path)


@pytest.mark.parametrize(
    ("scorer", "reference", "words"),
    [
        (ExactMatch(), " ", "empty"),
        (Contains(), "", "empty"),
        (JsonMatch(), "turn it on", "not JSON"),
        (JsonMatch(fields=("intent",)), "[1]", "not a JSON object"),
        (LabelAccuracy(labels=("yes", "no")), "maybe", "none of the labels yes, no"),
    ],
)
def test_references_that_cannot_be_compared_name_their_row(scorer, reference, words, tmp_path):
    with pytest.raises(DataError, match=words) as caught:
        check_references(build_scorers([scorer], tmp_path), [example(reference, row=7)])
    assert caught.value.where == "rows.jsonl:7"


def test_reference_against_the_schema(tmp_path):
    (tmp_path / "s.json").write_text('{"required": ["intent"]}')
    with pytest.raises(DataError, match="does not satisfy the schema"):
        check_references(build_scorers([JsonMatch(schema_path="s.json")], tmp_path), [example("{}")])


def test_misspelt_field_names_the_nearest(tmp_path):
    with pytest.raises(SpecError) as caught:
        check_references(build_scorers([JsonMatch(fields=("intnet",))], tmp_path), [example('{"intent": 1}')])
    assert caught.value.what == "No held-out reference has a field `intnet`."
    assert caught.value.where == "evaluation.scorers.fields"
    assert caught.value.fix == "Did you mean `intent`?"


def test_plain_text_has_no_answer_to_score(tmp_path):
    rows = [example("", text="once upon a time")]
    check_references(build_scorers([HoldoutLoss()], tmp_path), rows)
    with pytest.raises(DataError, match="plain text"):
        check_references(build_scorers([ExactMatch()], tmp_path), rows)


def write(folder, name, text):
    (folder / f"{name}.py").write_text(text)


def run_custom(folder, function, answer="x"):
    scorers = build_scorers([CustomScorer(function=function)], folder)
    return score_answers(scorers, [example("r", row=5)], [[{"role": "user", "content": "q"}]], [answer])


def test_own_scorer_beside_the_run_file(tmp_path):
    write(tmp_path, "near", "LIMIT = 3")
    write(
        tmp_path,
        "json",
        "from near import LIMIT\ndef short(prompt, answer, reference):\n    return len(answer) < LIMIT",
    )
    assert run_custom(tmp_path, "json:short") == {"short": [1.0]}
    assert json.loads("1") == 1  # Python's own module of that name is untouched


def test_own_scorer_in_an_installed_module_or_a_package_beside(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").touch()
    write(tmp_path / "mine", "quality", "def good(p, a, r): return 0.25")
    assert run_custom(tmp_path, "mine.quality:good") == {"good": [0.25]}


def test_numpy_numbers_are_numbers(tmp_path):
    write(
        tmp_path,
        "np_scorer",
        "import numpy as np\ndef s(p, a, r): return np.float32(0.5)\ndef t(p, a, r): return np.True_",
    )
    assert run_custom(tmp_path, "np_scorer:s") == {"s": [0.5]}
    assert run_custom(tmp_path, "np_scorer:t") == {"t": [1.0]}


@pytest.mark.parametrize(
    ("function", "what", "where", "fix"),
    [
        (
            "no_such_module_here:f",
            "Module `no_such_module_here` not found.",
            "evaluation.scorers",
            "Put no_such_module",
        ),
        ("broken:f", "cannot be imported: SyntaxError", "broken.py:1", "Fix the module"),
        ("raising:f", "cannot be imported: RuntimeError: boom", "raising.py:1", "Fix the module"),
        ("needy:f", "cannot be imported: ModuleNotFoundError", "needy.py:1", "install what it imports"),
        ("fine:scroe", "Module `fine` has no function `scroe`.", "fine.py", "Did you mean `score`?"),
        ("fine:nothing_like_it", "has no function `nothing_like_it`", "fine.py", "Add `def nothing_like_it(prompt"),
        ("fine:two", "takes (answer, reference)", "fine.py:2", "Define it as `def two(prompt"),
    ],
)
def test_own_scorer_that_cannot_be_used(function, what, where, fix, tmp_path):
    write(tmp_path, "broken", "def f(:")
    write(tmp_path, "raising", "raise RuntimeError('boom')")
    write(tmp_path, "needy", "import no_such_dependency")
    write(tmp_path, "fine", "def score(p, a, r): return 1\ndef two(answer, reference): return 1")
    with pytest.raises(SpecError) as caught:
        build_scorers([CustomScorer(function=function)], tmp_path)
    assert what in caught.value.what
    assert where in caught.value.where
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise KeyError('slot')", "raised KeyError: 'slot'"),
        ("return 'good'", "returned 'good', which is not a finite number"),
        ("return None", "returned None"),
        ("return float('nan')", "returned nan"),
        ("return float('inf')", "returned inf"),
    ],
)
def test_own_scorer_that_fails_names_the_example(body, words, tmp_path):
    write(tmp_path, "bad_scorer", f"def f(prompt, answer, reference):\n    {body}")
    with pytest.raises(SpecError) as caught:
        run_custom(tmp_path, "bad_scorer:f")
    assert words in caught.value.what
    assert "bad_scorer.py" in caught.value.where
    assert caught.value.where.endswith(", called with rows.jsonl:5")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
