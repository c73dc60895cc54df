"""`guitarfish ask`: one question to a running server, answered by several models side by side."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from guitarfish.verbs.options import AsJson


@dataclass(frozen=True)
class Answer:
    """What one model said, and how long it took."""

    model: str
    answer: str
    seconds: float


def ask(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL]... QUESTION",
            help="Models (base, NAME, NAME@ALIAS, NAME@3), then the question. All that are served, without a model.",
            show_default=False,
        ),
    ],
    url: Annotated[
        str, typer.Option("--url", envvar="GUITARFISH_URL", help="The server, without /v1.")
    ] = "http://127.0.0.1:8000",
    system: Annotated[str | None, typer.Option("--system", help="A system message.")] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[float, typer.Option("--temperature", min=0, help="0 is greedy.")] = 0.0,
    json: AsJson = False,
) -> None:
    """Ask a running server a question; with several models their answers stand side by side.

    Where the server asks for an API key, it is taken from the environment variable GUITARFISH_API_KEY.
    """
    from guitarfish.show.rendering import print_json, say
    from serving.client import models, wait_ready

    url = url.rstrip("/").removesuffix("/v1")
    *names, question = words
    wait_ready(url, timeout=3)
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": question})
    answers = [
        _ask_one(url, name, messages, max_tokens=max_tokens, temperature=temperature) for name in names or models(url)
    ]
    if json:
        print_json({"question": question, "answers": [vars(answer) for answer in answers]})
    elif len(answers) == 1:
        say(answers[0].answer)
    else:
        _side_by_side(answers)


def _ask_one(url: str, model: str, messages: list[dict[str, Any]], **options: Any) -> Answer:
    import httpx

    from runspec.errors import ServingError
    from serving.client import chat

    began = time.monotonic()
    try:
        text = chat(url, model, messages, **options)
    except httpx.HTTPError as error:
        what = f"the server stopped answering: {error or type(error).__name__}"
        raise ServingError(what, where=url, fix="look into the server's logs") from error
    return Answer(model, text, time.monotonic() - began)


def _side_by_side(answers: list[Answer]) -> None:
    """Up to three models as columns, more as rows."""
    from guitarfish.show.rendering import print_table

    if len(answers) > 3:
        print_table(["model", "answer", "seconds"], [(a.model, a.answer, f"{a.seconds:.1f}") for a in answers])
        return
    times = [f"({answer.seconds:.1f} s)" for answer in answers]
    print_table([answer.model for answer in answers], [[answer.answer for answer in answers], times])
