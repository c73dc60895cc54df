"""What the tests of serving ask a server, and what they read off it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import openai
from support.serving_adapters import ASK

from cluster.billing.usage import read_usage
from cluster.store.storage import Store
from serving.application import APPLICATION, Server
from serving.door.keys import NewKey

_SAMPLE = re.compile(r"(?P<name>\w+)\{(?P<labels>.*)\} (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def ask(api: openai.OpenAI, model: str) -> tuple[str, str]:
    """The answer, and which version gave it."""
    answer = api.chat.completions.create(model=model, messages=ASK, temperature=0, max_tokens=8)
    return answer.choices[0].message.content, answer.model


def post(server: Server, key: NewKey, model: str, **options: Any) -> httpx.Response:
    """A chat request as it is, without a client's comforts."""
    headers = {"Authorization": f"Bearer {key.token}"}
    body = {"model": model, "messages": ASK, "temperature": 0, "max_tokens": 5} | options
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=300)


def replicas() -> dict[str, int]:
    """Replicas of the model by state."""
    from ray import serve

    deployments = serve.status().applications[APPLICATION].deployments
    (found,) = [one for name, one in deployments.items() if "FrontDoor" not in name]
    return dict(found.replica_states)


def scrape(server: Server) -> str:
    """What Prometheus would read."""
    return "".join(httpx.get(url, timeout=30).text for url in server.metrics)


def metric(text: str, name: str, **labels: str) -> float:
    """Sum of a metric's samples that have these labels."""
    found = 0.0
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match and match["name"] == name and labels.items() <= dict(_LABEL.findall(match["labels"])).items():
            found += float(match["value"])
    return found


def in_ledger(store: Store, key: NewKey) -> dict[str, int]:
    """What the ledger has of a key, over all records."""
    names = ("requests", "failed", "refused", "prompt_tokens", "completion_tokens")
    counts = [one for record in read_usage(store) for one in record.models if one.key == key.record.id]
    return {name: sum(getattr(one, name) for one in counts) for name in names}


def wait_for(reached: Callable[[], Any], wanted: Mapping[str, Any] | float | str, seconds: float = 60) -> None:
    """Wait until what a function gives is what is wanted."""
    deadline = time.monotonic() + seconds
    while (found := reached()) != wanted:
        assert time.monotonic() < deadline, f"{found} after {seconds} s, and not {wanted}"
        time.sleep(0.5)
