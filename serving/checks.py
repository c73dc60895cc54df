"""Checks before a server starts, so that a mistake shows in a second and not after the engine is up."""

from __future__ import annotations

import importlib.util
import logging
import socket
from datetime import UTC, datetime

import psutil

from cluster.store.storage import open_store
from registry.adapters import Registry
from runspec.errors import RegistryError, ServingError
from runspec.publish import ServingSpec
from serving.door.keys import list_keys
from serving.engine.adapters import check_card, fetch_adapter
from serving.plan import ServePlan, asks_for_keys, check_base_name, check_lengths, check_memory

log = logging.getLogger(__name__)


def check_start(plan: ServePlan) -> None:
    """Everything that can be checked before Ray and vLLM start.

    Raises:
        ServingError: vLLM is missing, the name is not valid, the port is in use, memory or cache is too small, or a
            required adapter cannot be served here.
        RegistryError, StoreError: a required adapter is missing or damaged, or the store does not answer.
    """
    check_installed()
    check_base_name(plan.base_name)
    check_port(plan.spec.host, plan.spec.port)
    check_lengths(plan)
    check_memory(plan, psutil.virtual_memory().available)
    check_adapters(plan)
    check_keys(plan.spec, plan.store)


def check_keys(spec: ServingSpec, store: str) -> None:
    """Raise ServingError if keys are required but none is valid; StoreError if a key's record is damaged."""
    if not asks_for_keys(spec):
        return
    now = datetime.now(UTC)
    if any(key.state(now) == "valid" for key in list_keys(open_store(store))):
        return
    raise ServingError(
        "The server requires API keys, but its store has no valid one.",
        where=f"serving.api_keys: {spec.api_keys}, serving.host: {spec.host}, store: {store}",
        fix=f"Create one: guitarfish keys create NAME --all-adapters --base --store {store}; or set serving.api_keys "
        "to off if everyone who can reach the port may use the server.",
    )


def check_installed() -> None:
    for name in ("vllm", "ray.serve"):
        try:
            found = importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            raise ServingError(
                f"Serving needs {name}, which is not installed.",
                where="packages of this Python",
                fix="Run `make setup`, or install guitarfish with the extra `cpu` or `gpu`.",
            )


def check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServingError(
                f"Cannot listen on {host}:{port}: {error.strerror or error}.",
                where=f"serving.host: {host}, serving.port: {port}",
                fix="Stop the program that uses it, or choose another port with --set serving.port=8001.",
            ) from error


def check_adapters(plan: ServePlan) -> None:
    """Check the required adapters (without any, warn of those that do not fit), and that none has the base's name.

    Raises:
        ServingError, RegistryError, StoreError: see `check_start`.
    """
    registry = Registry(open_store(plan.store))
    if plan.base_name in registry.names():
        raise ServingError(
            f"The base model and an adapter are both named `{plan.base_name}`.",
            where=f"registry of {plan.store}",
            fix="Give the base model another name with --base-name.",
        )
    for reference in plan.adapters:
        found = registry.resolve(reference)
        fetch_adapter(registry, found.name, found.version, plan)
    if plan.adapters:
        return
    for name in registry.names():
        try:
            found = registry.resolve(name)
            check_card(registry.card(found.name, found.version), plan)
        except (RegistryError, ServingError) as error:
            log.warning("%s is not served: %s", name, error.what)
