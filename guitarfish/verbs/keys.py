"""`guitarfish keys`: API keys for a store's servers, and what each gives access to."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from cluster.store.storage import Store, open_store
from guitarfish.show.rendering import note, print_json, print_table, say
from guitarfish.verbs.options import DEFAULT_STORE, AsJson, StoreUri, verb_group
from registry.adapters import Registry
from runspec.errors import RegistryError, UserError
from runspec.publish import NAME_PATTERN
from serving.door.keys import Key, KeyRecord, create_key, list_keys, revoke_key

app = verb_group("Create, list and revoke the API keys for a store's servers.")


@app.command(short_help="Create a key, which is shown once.")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who or what the key is for.", show_default=False)],
    adapter: Annotated[
        list[str] | None,
        typer.Option("--adapter", metavar="NAME", help="An adapter it may use, in all versions. May be repeated."),
    ] = None,
    all_adapters: Annotated[bool, typer.Option("--all-adapters", help="Every adapter, including future ones.")] = False,
    base: Annotated[bool, typer.Option("--base", help="Also allow the base model.")] = False,
    expires_days: Annotated[
        int | None,
        typer.Option("--expires-days", min=1, max=36500, metavar="DAYS", help="Days until the key expires."),
    ] = None,
    store: StoreUri = DEFAULT_STORE,
    json: AsJson = False,
) -> None:
    """Create an API key. It is printed to stdout once: only a digest of it is stored."""
    opened = open_store(store)
    _check_scope(opened, name, adapter or [], all_adapters=all_adapters, base=base)
    made = create_key(
        opened,
        name,
        adapters=None if all_adapters else adapter or [],
        base=base,
        lifetime=timedelta(days=expires_days) if expires_days else None,
    )
    if json:
        print_json({"key": made.token, **_public(made.record)})
        return
    note(f"key {made.record.id} ({name}) may use {_scope(made.record)}{_until(made.record)}; it is shown only once:")
    sys.stdout.write(f"{made.token}\n")  # a key must not be wrapped


@app.command("list", short_help="List the keys of a store.")
def list_(store: StoreUri = DEFAULT_STORE, json: AsJson = False) -> None:
    """List the keys of a store: who they are for, what they may use, and whether they are valid."""
    keys, now = list_keys(open_store(store)), datetime.now(UTC)
    if json:
        print_json([{**_public(key.record), "state": key.state(now), "revoked": key.revoked} for key in keys])
    elif keys:
        rows = [
            (key.record.id, key.record.name, key.state(now), _scope(key.record), _day(key), key.record.created_by)
            for key in keys
        ]
        print_table(["id", "name", "state", "may use", "created", "by"], rows)
    else:
        note(f"{store} has no keys")


@app.command(short_help="Revoke a key.")
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="The key's id or its name.", show_default=False)],
    store: StoreUri = DEFAULT_STORE,
    json: AsJson = False,
) -> None:
    """Revoke a key. Servers refuse it within a second or two, without a restart."""
    gone = revoke_key(open_store(store), key)
    assert gone.revoked is not None
    if json:
        print_json({**_public(gone.record), "revoked": gone.revoked})
    else:
        say(f"key {gone.record.id} ({gone.record.name}) was revoked at {gone.revoked.at:%Y-%m-%d %H:%M:%S} UTC")


def _check_scope(store: Store, name: str, adapters: list[str], *, all_adapters: bool, base: bool) -> None:
    """Refuse a key that would be useless, or names an adapter that does not exist."""
    where = "guitarfish keys create"
    if not re.fullmatch(NAME_PATTERN, name):
        fix = "Use up to 63 lower-case letters, digits and hyphens, starting with a letter or digit."
        raise UserError(f"`{name}` is not a valid name for a key.", where=where, fix=fix)
    if all_adapters and adapters:
        raise UserError("--all-adapters and --adapter exclude each other.", where=where, fix="Use only one of them.")
    if not (all_adapters or adapters or base):
        fix = "Add --adapter NAME, --all-adapters or --base."
        raise UserError("This key gives access to nothing.", where=where, fix=fix)
    registry = Registry(store)
    for adapter in adapters:
        plain, at, _ = adapter.partition("@")
        if at:
            fix = f"Write --adapter {plain}: a key is valid for all versions and aliases of an adapter."
            raise RegistryError(f"`{adapter}` is a version or an alias, not an adapter.", where=where, fix=fix)
        registry.require(adapter)


def _public(record: KeyRecord) -> dict[str, object]:
    return record.model_dump(mode="json", exclude={"secret_sha256"})


def _scope(record: KeyRecord) -> str:
    adapters = ["every adapter"] if record.adapters is None else list(record.adapters)
    return ", ".join([*adapters, *(["the base model"] if record.base else [])])


def _until(record: KeyRecord) -> str:
    return f", until {record.expires_at:%Y-%m-%d %H:%M} UTC" if record.expires_at else ""


def _day(key: Key) -> str:
    return f"{key.record.created_at:%Y-%m-%d %H:%M}"
