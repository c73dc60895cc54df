"""`guitarfish ask`: one question to a running server, answered by several models side by side."""

from __future__ import annotations

import time
from typing import Annotated

import httpx
import typer

from guitarfish.show.rendering import print_json, print_table, say
from guitarfish.verbs.options import AsJson
from runspec.errors import ServingError
from serving.client import chat, models, wait_ready


def ask(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL]... QUESTION",
            help="Models (base, NAME, NAME@ALIAS, NAME@3), then the question. Without a model, all that are served.",
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
    """Ask a running server a question, and show the answers of several models side by side.

    If the server requires an API key, it is taken from the environment variable GUITARFISH_API_KEY.
    """
    url = url.rstrip("/").removesuffix("/v1")
    *names, question = words
    wait_ready(url, timeout=3)
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": question})
    answers: list[tuple[str, str, float]] = []
    for name in names or models(url):
        began = time.monotonic()
        try:
            answer = chat(url, name, messages, max_tokens=max_tokens, temperature=temperature)
        except httpx.HTTPError as error:
            what = f"The server stopped answering: {error or type(error).__name__}."
            raise ServingError(what, where=url, fix="Look into the server's logs.") from error
        answers.append((name, answer, time.monotonic() - began))
    if json:
        shown = [{"model": model, "answer": answer, "seconds": seconds} for model, answer, seconds in answers]
        print_json({"question": question, "answers": shown})
    elif len(answers) == 1:
        say(answers[0][1])
    elif len(answers) > 3:
        rows = [(model, answer, f"{seconds:.1f}") for model, answer, seconds in answers]
        print_table(["model", "answer", "seconds"], rows)
    else:
        times = [f"({seconds:.1f} s)" for _, _, seconds in answers]
        print_table([model for model, _, _ in answers], [[answer for _, answer, _ in answers], times])
