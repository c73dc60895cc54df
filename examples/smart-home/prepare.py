"""Make the smart-home data: sentences from home-assistant-intents' English templates, with the intent as strict JSON.

Every row names its template, so that a hold-out by template has phrasings that were never trained on. Every row is
checked with hassil's recogniser; one that it reads differently is left out and counted.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import home_assistant_intents
from hassil import Intents, recognize_best
from hassil import expression as hx
from hassil import intents as hi
from hassil.numbers import get_rbnf_engine
from hassil.parse_expression import parse_sentence
from hassil.util import normalize_whitespace
from home import AREAS, DEVICES, FLOORS, FREE_TEXT

from runspec.load import load_run
from training.curation.curate import curate

HERE = Path(__file__).parent
TEMPLATES = Path(home_assistant_intents.__file__).parent / "data" / "en.json"
SPOKEN_NUMBERS = 0.2
"""Share of numbers written as words; speech recognisers write most of them in digits."""
FIRST_KEYS = ("intent", "domain", "device_class", "name", "area", "floor", "state")
"""The first keys of an answer; the others follow in alphabetical order."""
HERE_AREA = "(area of the microphone)"
"""Some templates take the area from where the microphone is. The sentence does not name it, so no answer has it."""
ROWS_OF_TEMPLATE = 2
"""Few rows of many templates teach more than many rows of few."""
TRIES = 12
"""Draws for each wanted row of a template."""
QUESTION_TEMPLATE = "HassIncreaseTimer/1/1"
"""The demo's question comes from this template, which is held out."""


@dataclass(frozen=True)
class Template:
    """One sentence template of an intent."""

    id: str
    intent: str
    sentence: hx.Sentence
    data: hi.IntentData


@dataclass
class Draw:
    """What was drawn while making a sentence of a template."""

    chance: random.Random
    home: Home
    domains: tuple[str, ...]
    slots: dict[str, Any] = field(default_factory=dict)


class Home:
    """The templates, and the lists that hassil fills their slots from."""

    def __init__(self) -> None:
        self.raw = json.loads(TEMPLATES.read_text(encoding="utf-8"))
        self.intents = Intents.from_dict(self.raw)
        names = [(name, name, {"domain": domain}) for domain, names in DEVICES.items() for name in names]
        self.lists: dict[str, hi.SlotList] = {
            "area": hi.TextSlotList.from_strings(AREAS, name="area"),
            "floor": hi.TextSlotList.from_strings(FLOORS, name="floor"),
            "name": hi.TextSlotList.from_tuples(names, name="name"),
        }

    def templates(self) -> Iterator[Template]:
        for name, intent in self.intents.intents.items():
            for block, data in enumerate(intent.data):
                for place, text in enumerate(data.sentence_texts):
                    sentence = parse_sentence(text)
                    yield Template(f"{name}/{block}/{place}", name, sentence, data)

    @cached_property
    def rules(self) -> dict[str, hx.Sentence]:
        """Parts of sentences that several templates use."""
        return self.intents.expansion_rules

    def recognise(self, text: str) -> dict[str, Any] | None:
        """The answer that hassil's recogniser finds in a sentence."""
        found = recognize_best(
            text,
            self.intents,
            slot_lists=self.lists,
            intent_context={"area": HERE_AREA},
            language="en",
            best_slot_name="name",
        )
        if found is None:
            return None
        slots = {entity.name: entity.value for entity in found.entities_list if entity.value != HERE_AREA}
        return answer(found.intent.name, slots)


def answer(intent: str, slots: dict[str, Any]) -> dict[str, Any]:
    """An answer with its keys in order, and whole numbers as integers."""
    values = {"intent": intent, **slots}
    order = [key for key in FIRST_KEYS if key in values] + sorted(key for key in values if key not in FIRST_KEYS)
    return {key: int(values[key]) if _whole(values[key]) else values[key] for key in order}


def compact(meaning: dict[str, Any]) -> str:
    """An answer as text: strict JSON without white space, which saves a quarter of its tokens."""
    return json.dumps(meaning, separators=(",", ":"), ensure_ascii=False)


def _whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def say(expression: hx.Expression, draw: Draw) -> str:
    """A random sentence of a template; the slots' values go to `draw.slots`."""
    match expression:
        case hx.TextChunk():
            return expression.original_text
        case hx.Alternative():
            return say(draw.chance.choice(expression.items), draw)
        case hx.Permutation():
            items = draw.chance.sample(expression.items, len(expression.items))
            return normalize_whitespace("".join(f" {say(item, draw)} " for item in items))
        case hx.Group():
            return "".join(say(item, draw) for item in expression.items)
        case hx.RuleReference():
            return say(draw.home.rules[expression.rule_name].expression, draw)
        case hx.ListReference():
            return _fill(expression, draw)
    raise TypeError(f"hassil has a new kind of expression: {type(expression).__name__}")


def _fill(slot: hx.ListReference, draw: Draw) -> str:
    text, value = _value(slot.list_name, draw)
    if not slot.is_capture:
        draw.slots[slot.slot_name] = value
    return text


def _value(name: str, draw: Draw) -> tuple[str, Any]:
    """How a value is said, and the value."""
    if name in FREE_TEXT:
        return (word := draw.chance.choice(FREE_TEXT[name])), word
    if name == "name":
        domain = draw.chance.choice([domain for domain in draw.domains if domain in DEVICES] or list(DEVICES))
        return (word := draw.chance.choice(DEVICES[domain])), word
    values = draw.home.lists.get(name) or draw.home.intents.slot_lists[name]
    if isinstance(values, hi.RangeSlotList):
        return _number(values, draw.chance)
    assert isinstance(values, hi.TextSlotList), f"no words for the free-text slot {name}"
    chosen = draw.chance.choice(values.values)
    return say(chosen.text_in, draw), chosen.value_out


def _number(values: hi.RangeSlotList, chance: random.Random) -> tuple[str, float]:
    number = chance.choice(list(values.get_numbers()))
    text = str(number)
    if chance.random() < SPOKEN_NUMBERS:
        text = get_rbnf_engine("en").format_number(number).text
    return text, number * (values.multiplier or 1)


@dataclass(frozen=True)
class Row:
    """One sentence and what it means."""

    template: str
    sentence: str
    meaning: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As in the data file."""
        return {"prompt": self.sentence, "completion": compact(self.meaning), "template": self.template}


def draw_row(template: Template, home: Home, chance: random.Random) -> Row:
    """One sentence of a template, not yet checked."""
    wanted = template.data.requires_context.get("domain", ())
    draw = Draw(chance, home, (wanted,) if isinstance(wanted, str) else tuple(wanted))
    sentence = normalize_whitespace(say(template.sentence.expression, draw)).strip()
    return Row(template.id, sentence, answer(template.intent, {**template.data.slots, **draw.slots}))


def rows_of(template: Template, home: Home, wanted: int, seed: int, seen: set[str], fates: Counter[str]) -> list[Row]:
    """Up to `wanted` checked sentences of a template that no other template gave."""
    chance = random.Random(f"{seed}:{template.id}")
    rows: list[Row] = []
    for _ in range(TRIES * wanted):
        if len(rows) == wanted:
            break
        row = draw_row(template, home, chance)
        if row.sentence in seen:
            fates["same as another"] += 1
        elif home.recognise(row.sentence) != row.meaning:
            fates["read differently"] += 1
        else:
            seen.add(row.sentence)
            rows.append(row)
    fates["rows"] += len(rows)
    fates["templates without a row"] += not rows
    return rows


def all_rows(home: Home, seed: int, fates: Counter[str]) -> list[Row]:
    seen: set[str] = set()
    rows: list[Row] = []
    for template in home.templates():
        rows += rows_of(template, home, ROWS_OF_TEMPLATE, seed, seen, fates)
        fates["templates"] += 1
    return rows


def schema(rows: list[Row]) -> dict[str, Any]:
    """A JSON Schema of the answers: one of the intents, and slots of the types that they have in the data."""
    types: dict[str, set[str]] = {}
    for row in rows:
        for key, value in row.meaning.items():
            types.setdefault(key, set()).add("string" if isinstance(value, str) else "number")
    slots = {key: {"type": sorted(found)} for key, found in sorted(types.items()) if key != "intent"}
    intents = sorted({row.meaning["intent"] for row in rows})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"intent": {"enum": intents}, **slots},
        "required": ["intent"],
        "additionalProperties": False,
    }


def write(folder: Path, rows: list[Row]) -> None:
    folder.mkdir(exist_ok=True)
    lines = "".join(json.dumps(row.to_json(), ensure_ascii=False) + "\n" for row in rows)
    (folder / "smart-home.jsonl").write_text(lines, encoding="utf-8")
    (folder / "schema.json").write_text(json.dumps(schema(rows), indent=1) + "\n", encoding="utf-8")


def held_out_templates() -> set[str]:
    """The templates that run.yaml holds out."""
    return {example.group or "" for example in curate(load_run(HERE / "run.yaml").spec.data, HERE, seed=0).holdout}


def write_question(folder: Path, rows: list[Row], held_out: set[str]) -> None:
    """A sentence for the demo to ask.

    Raises:
        LookupError: run.yaml was changed and no longer holds out the question's template.
    """
    if QUESTION_TEMPLATE not in held_out:
        raise LookupError(f"run.yaml trains on the template {QUESTION_TEMPLATE}. Choose another QUESTION_TEMPLATE.")
    question = next(row for row in rows if row.template == QUESTION_TEMPLATE)
    (folder / "question.txt").write_text(question.sentence + "\n", encoding="utf-8")


def report(rows: list[Row], held_out: set[str], fates: Counter[str]) -> str:
    """A short table of what was made."""
    trained = {row.template.split("/")[0] for row in rows if row.template not in held_out}
    measured = {row.template.split("/")[0] for row in rows if row.template in held_out}
    held_rows = sum(row.template in held_out for row in rows)
    table = {
        "templates": f"{fates['templates']} ({len(held_out)} held out)",
        "templates without a row": fates["templates without a row"],
        "intents": f"{len(trained | measured)} ({len(measured)} with a held-out template)",
        "intents only in the hold-out": ", ".join(sorted(measured - trained)) or "none",
        "rows": f"{len(rows)} ({held_rows} held out)",
        "left out: hassil reads it differently": fates["read differently"],
        "left out: the same as another row": fates["same as another"],
    }
    return "\n".join(f"{name:38} {value}" for name, value in table.items())


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the smart-home data from home-assistant-intents' templates.")
    parser.add_argument("--seed", type=int, default=0, help="seed for drawing sentences from the templates")
    seed = parser.parse_args().seed
    fates: Counter[str] = Counter()
    rows = all_rows(Home(), seed, fates)
    write(HERE / "data", rows)
    held_out = held_out_templates()
    write_question(HERE / "data", rows, held_out)
    print(report(rows, held_out, fates))


if __name__ == "__main__":
    main()
