"""The same server, last: a load that one replica cannot carry brings up a second, and its end takes it down again."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from support.serving_adapters import WORDS
from support.serving_calls import in_ledger, metric, post, replicas, scrape, wait_for

from cluster.billing.usage import read_usage
from cluster.store.storage import Store
from serving.application import Server
from serving.door.keys import NewKey
from serving.plan import ServePlan

WORKERS, BURST = 20, 60


class Load:
    """Workers that ask again as soon as they are answered, until the load ends."""

    def __init__(self, server: Server, key: NewKey) -> None:
        self.server, self.key = server, key
        self.answers: list[tuple[str, httpx.Response, float]] = []
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(WORKERS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def ask(self, number: int) -> httpx.Response:
        """One request, kept with its answer and when that came."""
        name = ("fruit", "animal")[number % 2]
        response = post(self.server, self.key, f"{name}@1")
        self.answers.append((name, response, time.monotonic()))
        return response

    def _work(self, number: int) -> None:
        while not self._done.is_set():
            if self.ask(number).status_code == 429:
                time.sleep(1)


@pytest.mark.soak
def test_replicas_follow_the_load_and_too_much_is_429(
    server: Server, keys: dict[str, NewKey], store: Store, plan: ServePlan
) -> None:
    assert replicas() == {"RUNNING": 1}
    began = time.monotonic()
    with Load(server, keys["load"]) as load:
        wait_for(lambda: replicas().get("RUNNING"), 2, seconds=300)
        came = time.monotonic()
        with ThreadPoolExecutor(BURST) as burst:
            list(burst.map(load.ask, range(BURST)))
    ended = time.monotonic()
    wait_for(replicas, {"RUNNING": 1}, seconds=120)
    print(f"\n2 replicas after {came - began:.0f} s, 1 again {time.monotonic() - ended:.0f} s after the load's end")
    check_answers(load, began, came)
    check_counts(load, server, keys["load"], store)
    assert post(server, keys["load"], "fruit@1").status_code == 200


def check_answers(load: Load, began: float, came: float) -> None:
    """Every answer is right or a refusal that says when to come back; there are both."""
    statuses = Counter(response.status_code for _, response, _ in load.answers)
    print(f"{statuses}, in {max(at for *_, at in load.answers) - began:.0f} s")
    assert set(statuses) == {200, 429}
    for name, response, _ in load.answers:
        if response.status_code == 200:
            assert response.json()["choices"][0]["message"]["content"] == WORDS[name]
            assert response.headers["x-guitarfish-version"] == f"{name}@1"
        else:
            assert int(response.headers["retry-after"]) >= 1
            assert response.json()["error"]["code"] == "rate_limit_exceeded"
            assert "16 requests wait" in response.json()["error"]["message"]
    assert any(at < came for _, response, at in load.answers if response.status_code == 200)


def check_counts(load: Load, server: Server, key: NewKey, store: Store) -> None:
    """Ledger and metrics have what clients saw."""
    answered = [response for _, response, _ in load.answers if response.status_code == 200]
    wanted = {
        "requests": len(load.answers),
        "failed": 0,
        "refused": len(load.answers) - len(answered),
        "prompt_tokens": sum(response.json()["usage"]["prompt_tokens"] for response in answered),
        "completion_tokens": sum(response.json()["usage"]["completion_tokens"] for response in answered),
    }
    wait_for(lambda: in_ledger(store, key), wanted, seconds=30)
    wait_for(lambda: metric(scrape(server), "ray_guitarfish_requests_total", key=key.record.id), wanted["requests"])
    text = scrape(server)
    assert metric(text, "ray_guitarfish_requests_total", key=key.record.id, status="4xx") == wanted["refused"]
    assert metric(text, "ray_guitarfish_completion_tokens_total", key=key.record.id) == wanted["completion_tokens"]
    assert "vllm" in text  # the engine's own metrics are in the same place
    records = read_usage(store)
    seconds = sum((record.ended_at - record.started_at).total_seconds() for record in records)
    assert seconds < sum(record.replica_seconds for record in records) < 2 * seconds
