"""`guitarfish serve` compared with vLLM's own server: time to first token, latency, throughput.

    python benchmarks/serving_overhead.py examples/smart-home/run.yaml --requests 48 --out serving_overhead.json

Both serve the run file's base model with the same engine settings, adapters enabled, one after the other. Then ours
with API keys, and, if the run file's store has adapters, with requests that name them in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from cluster.machine.hardware import detect
from cluster.store.storage import open_store
from guitarfish.verbs.serve import plan_of
from runspec.errors import ServingError
from runspec.load import load_run
from serving.client import KEY_VARIABLE, models, wait_ready
from serving.door.keys import create_key, revoke_key
from serving.engine.settings import engine_arguments, environment
from serving.plan import ServePlan

BIN = Path(sys.executable).parent
START_SECONDS = 600


@dataclass(frozen=True)
class Result:
    """One server under one load.

    Attributes:
        at_once: concurrent requests.
        first_token_ms: median time to the first token.
        median_ms, slow_ms: median and 95th percentile of the time to the last token.
        tokens_per_second: of all requests together.
    """

    server: str
    at_once: int
    first_token_ms: float
    median_ms: float
    slow_ms: float
    tokens_per_second: float


# --- the load


async def ask(client: httpx.AsyncClient, model: str, number: int, tokens: int) -> tuple[float, float]:
    """One streamed answer: seconds to its first token, and to its end."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": f"Tell a story about the number {number}."}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    began, first, counted = time.perf_counter(), 0.0, 0
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.status_code != 200:
            raise SystemExit(f"{response.status_code}: {(await response.aread()).decode()[:500]}")
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            if not first and event["choices"] and event["choices"][0]["delta"].get("content"):
                first = time.perf_counter()
            counted = (event.get("usage") or {}).get("completion_tokens", counted)
    if counted != tokens:
        raise SystemExit(f"{counted} tokens were written, and not {tokens}")
    return first - began, time.perf_counter() - began


async def load(url: str, names: Sequence[str], at_once: int, requests: int, tokens: int) -> tuple[list[Any], float]:
    """Send `requests` questions, `at_once` at a time; the time of each, and of all together."""
    key = os.environ.get(KEY_VARIABLE)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    numbers, times = iter(range(requests)), []

    async def work(client: httpx.AsyncClient) -> None:
        for number in numbers:
            times.append(await ask(client, names[number % len(names)], number * 1000 + at_once, tokens))

    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=600) as client:
        await asyncio.gather(*(ask(client, model, 7, 4) for model in names))  # adapters are loaded, code is warm
        began = time.perf_counter()
        await asyncio.gather(*(work(client) for _ in range(at_once)))
    return times, time.perf_counter() - began


def measure(
    server: str, url: str, names: Sequence[str], loads: Sequence[int], requests: int, tokens: int
) -> list[Result]:
    """One server under each load."""
    results = []
    for at_once in loads:
        times, seconds = asyncio.run(load(url, names, at_once, requests, tokens))
        ends = sorted(end for _, end in times)
        results.append(
            Result(
                server=server,
                at_once=at_once,
                first_token_ms=round(1000 * statistics.median(first for first, _ in times), 1),
                median_ms=round(1000 * statistics.median(ends), 1),
                slow_ms=round(1000 * ends[min(len(ends) - 1, int(0.95 * len(ends)))], 1),
                tokens_per_second=round(requests * tokens / seconds, 1),
            )
        )
        print(f"{server}, {at_once} at once: {seconds:.0f} s", file=sys.stderr)
    return results


# --- the servers


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], url: str, log: Path, **variables: str) -> Iterator[None]:
    """Run a server; enters once it answers, stops it on exit."""
    with log.open("w") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **variables})
    try:
        began = time.monotonic()
        while not _answers(url):
            if child.poll() is not None or time.monotonic() - began > START_SECONDS:
                raise SystemExit(f"{' '.join(command)} did not start:\n{log.read_text()[-3000:]}")
        yield
    finally:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(120)
        except subprocess.TimeoutExpired:
            child.kill()


def _answers(url: str) -> bool:
    try:
        wait_ready(url, 2)
    except ServingError:
        return False
    return True


def vllm_command(plan: ServePlan, port: int) -> list[str]:
    """vLLM's own server with the engine settings of ours."""
    place = {"host": "127.0.0.1", "port": port}
    settings = {"model": plan.model_source, "served_model_name": plan.base_name, **place, **engine_arguments(plan)}
    # `vllm serve` needs a package of that name, and the one for CPUs has a different name.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        command += [flag] if value is True else [flag, str(value)]
    return command


def compare(
    run: Path, overrides: list[str], loads: Sequence[int], requests: int, tokens: int, logs: Path
) -> list[Result]:
    """vLLM's server, ours, ours with keys and adapters."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    most = max(loads)
    settings = [*overrides, f"serving.port={port}", f"serving.max_ongoing_requests={most}", "serving.max_replicas=1"]
    plan = plan_of(load_run(run, settings), "base", ())
    ours = [str(BIN / "guitarfish"), "serve", str(run), *(part for one in settings for part in ("--set", one))]
    results = []
    with running(vllm_command(plan, port), url, logs / "vllm.log", **environment(plan)):
        results += measure("vllm serve", url, ["base"], loads, requests, tokens)
    with running(ours, url, logs / "guitarfish.log"):
        results += measure("guitarfish serve", url, ["base"], loads, requests, tokens)
    asks_for_keys = [*ours, "--set", "serving.api_keys=required"]
    with own_key(plan), running(asks_for_keys, url, logs / "keys.log"):
        results += measure("... with API keys", url, ["base"], loads, requests, tokens)
        adapters = [name for name in models(url) if name != "base" and "@" not in name][: plan.spec.max_adapters]
        if adapters:
            results += measure(f"... {len(adapters)} adapters", url, adapters, loads, requests, tokens)
    return results


@contextmanager
def own_key(plan: ServePlan) -> Iterator[None]:
    """A key for everything, which clients in this process send; revoked on exit."""
    store = open_store(plan.store)
    key = create_key(store, "benchmark", adapters=None, base=True, lifetime=timedelta(hours=2))
    os.environ[KEY_VARIABLE] = key.token
    try:
        yield
    finally:
        revoke_key(store, key.record.id)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare `guitarfish serve` with vLLM's own server.")
    parser.add_argument("run", type=Path, help="run file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of it")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--requests", type=int, default=48, help="requests for each load")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of each answer")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="guitarfish-benchmark-") as logs:
        load_of = (arguments.at_once, arguments.requests, arguments.tokens)
        results = compare(arguments.run, arguments.set, *load_of, Path(logs))
    print(f"{'server':20} {'at once':>7} {'first token ms':>15} {'median ms':>10} {'95 % ms':>9} {'tokens/s':>9}")
    for row in results:
        print(
            f"{row.server:20} {row.at_once:7} {row.first_token_ms:15,.0f} {row.median_ms:10,.0f} {row.slow_ms:9,.0f} "
            f"{row.tokens_per_second:9.1f}"
        )
    if arguments.out:
        found = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "requests": arguments.requests,
            "tokens": arguments.tokens,
            "machine": detect().model_dump(mode="json"),
            "results": [asdict(row) for row in results],
        }
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
