"""What is checked before a server starts, so that a mistake shows in a second and not after the engine is up."""

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
from serving.engine.cache import adapter_folder
from serving.engine.fit import check_card, check_folder
from serving.plan import ServePlan, asks_for_keys, check_base_name, check_lengths, check_memory

log = logging.getLogger(__name__)


def check_start(plan: ServePlan) -> None:
    """Everything that can be known before Ray and vLLM start.

    Raises:
        ServingError: vLLM is missing, the name cannot be used, the port is taken, memory or cache is too small, or an
            adapter that was asked for cannot be served here.
        RegistryError, StoreError: an adapter that was asked for is missing or damaged, or the store is silent.
    """
    check_installed()
    check_base_name(plan.base_name)
    check_port(plan.spec.host, plan.spec.port)
    check_lengths(plan)
    check_memory(plan, psutil.virtual_memory().available)
    check_adapters(plan)
    check_keys(plan.spec, plan.store)


def check_keys(spec: ServingSpec, store: str) -> None:
    """Raise ServingError where keys are asked for and nobody has one; StoreError where a key's record is damaged."""
    if not asks_for_keys(spec):
        return
    now = datetime.now(UTC)
    if any(key.state(now) == "valid" for key in list_keys(open_store(store))):
        return
    raise ServingError(
        "The server would ask for API keys, and its store has none that is valid.",
        where=f"serving.api_keys: {spec.api_keys}, serving.host: {spec.host}, store: {store}",
        fix=f"Make one: guitarfish keys create NAME --all-adapters --base --store {store}; or set "
        "serving.api_keys to off, where everybody who reaches the port may ask.",
    )


def check_installed() -> None:
    """Raise ServingError where vLLM or Ray Serve is not installed."""
    missing = [name for name in ("vllm", "ray.serve") if not _found(name)]
    if missing:
        raise ServingError(
            f"Serving needs {' and '.join(missing)}, which is not installed here.",
            where="packages of this Python",
            fix="Run `make setup`, or install the extra `cpu` or `gpu` of guitarfish.",
        )


def check_port(host: str, port: int) -> None:
    """Raise ServingError where the address cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServingError(
                f"Nothing can listen on {host}:{port}: {error.strerror or error}.",
                where=f"serving.host: {host}, serving.port: {port}",
                fix="End the program that uses it, or choose another with --set serving.port=8001.",
            ) from error


def check_adapters(plan: ServePlan) -> None:
    """Check the adapters the plan names, and that none of the registry's hides behind the base model's name.

    Raises:
        ServingError, RegistryError, StoreError: see `check_start`.
    """
    registry = Registry(open_store(plan.store))
    if plan.base_name in registry.names():
        raise ServingError(
            f"The base model would be called {plan.base_name!r}, and so is an adapter.",
            where=f"registry of {plan.store}",
            fix="Give the base model another name.",
        )
    for reference in plan.adapters:
        found = registry.resolve(reference)
        card = registry.card(found.name, found.version)
        check_card(card, plan)
        check_folder(f"{found.name}@{found.version}", adapter_folder(registry, card), plan)
    if not plan.adapters:
        _warn_of_misfits(registry, plan)


def _warn_of_misfits(registry: Registry, plan: ServePlan) -> None:
    for name in registry.names():
        try:
            found = registry.resolve(name)
            check_card(registry.card(found.name, found.version), plan)
        except (RegistryError, ServingError) as error:
            log.warning("%s is not served: %s", name, error.what)


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
