"""Rows with a judgement: a chosen and a rejected answer to one prompt, or one answer labelled good or bad."""

from __future__ import annotations

from typing import Any

from training.data.conversation import check_order, read_message
from training.data.example import Example, Message
from training.data.tool_calls import read_tools
from training.data.values import RowError, describe, list_of, optional_text, text_of

GOOD = ("true", "1", "good", "yes")
BAD = ("false", "0", "bad", "no")


def leading_system(values: dict[str, Any]) -> list[Message]:
    """The system message out of the column `system`, where there is one."""
    text = optional_text(values.get("system"), "system")
    return [{"role": "system", "content": text}] if text else []


def read_label(value: Any) -> bool:
    """Whether an answer is good: a boolean, 1 or 0, or the words CSV files have for them.

    Raises:
        RowError: it is none of them.
    """
    if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in (*GOOD, *BAD):
        return value.strip().lower() in GOOD
    raise RowError("label", f"is {describe(value)}", "write true for a good answer, false for a bad one")


def read_pair(values: dict[str, Any]) -> Example:
    """A preference row: `prompt` with `chosen` and `rejected` answers, or both as whole conversations that share all
    but their last message.

    Raises:
        RowError: naming the field and the fix.
    """
    chosen, rejected = _side(values, "chosen"), _side(values, "rejected")
    if "prompt" in values and values["prompt"] is not None:
        prompt = _prompt(values)
        chosen, rejected = [_answer(side, prompt, name) for side, name in ((chosen, "chosen"), (rejected, "rejected"))]
    else:
        prompt, chosen = chosen[:-1], chosen[-1:]
        if rejected[:-1] != prompt:
            raise RowError("rejected", "asks something else than chosen", "let the two differ in their last message")
        rejected = rejected[-1:]
    if not prompt:
        raise RowError(
            "prompt", "is missing", "add a column prompt, or write whole conversations in chosen and rejected"
        )
    if chosen == rejected:
        raise RowError("rejected", "says the same as chosen", "remove the row: there is nothing to prefer")
    for side, name in ((chosen, "chosen"), (rejected, "rejected")):
        whole = [*prompt, *side]
        check_order(whole, [f"prompt[{place}]" for place in range(len(prompt))] + [name], name)
    prompt = [message | {"weight": 0} if message["role"] == "assistant" else message for message in prompt]
    return Example(
        messages=(*prompt, *chosen), rejected=tuple(rejected), tools=read_tools(values.get("tools"), "tools")
    )


def _side(values: dict[str, Any], name: str) -> list[Message]:
    value = values[name]
    if not isinstance(value, list):
        return [{"role": "assistant", "content": text_of(value, name)}]
    return [read_message(turn, f"{name}[{place}]") for place, turn in enumerate(list_of(value, name))]


def _prompt(values: dict[str, Any]) -> list[Message]:
    prompt = values["prompt"]
    if not isinstance(prompt, list):
        return [*leading_system(values), {"role": "user", "content": text_of(prompt, "prompt")}]
    messages = [read_message(turn, f"prompt[{place}]") for place, turn in enumerate(list_of(prompt, "prompt"))]
    return messages if messages[0]["role"] == "system" else [*leading_system(values), *messages]


def _answer(side: list[Message], prompt: list[Message], name: str) -> list[Message]:
    """The answer of a side, which may repeat the prompt before it."""
    answer = side[len(prompt) :] if side[: len(prompt)] == prompt else side
    if len(answer) > 1 and [message["role"] for message in answer[:-1]] == [m["role"] for m in prompt]:
        raise RowError(name, "begins with another prompt than the column prompt has", "let the two be the same")
    if len(answer) != 1 or answer[0]["role"] != "assistant":
        roles = ", ".join(message["role"] for message in answer) or "nothing"
        raise RowError(name, f"is {roles}", "write one assistant message: the answer to the prompt")
    return answer
