"""`guitarfish keys`: API keys of a store's servers, and what each may ask for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from guitarfish.options import DEFAULT_STORE, AsJson, StoreUri

if TYPE_CHECKING:
    from cluster.storage import Store
    from serving.keys import Key, KeyRecord

app = typer.Typer(
    help="Create, list and revoke the API keys of a store's servers.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(short_help="Make a key, which is shown once.")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is, or what for.", show_default=False)],
    adapter: Annotated[
        list[str] | None,
        typer.Option("--adapter", metavar="NAME", help="An adapter it may ask, in all versions. May be repeated."),
    ] = None,
    all_adapters: Annotated[bool, typer.Option("--all-adapters", help="Every adapter, those to come too.")] = False,
    base: Annotated[bool, typer.Option("--base", help="Also the base model.")] = False,
    expires_days: Annotated[
        int | None,
        typer.Option("--expires-days", min=1, max=36500, metavar="DAYS", help="Refused after so many days."),
    ] = None,
    store: StoreUri = DEFAULT_STORE,
    json: AsJson = False,
) -> None:
    """Make an API key. Only a digest of it is stored: stdout shows it now, and nothing ever again."""
    from datetime import timedelta

    from cluster.storage import open_store
    from guitarfish.rendering import note, print_json
    from serving.keys import create_key

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
    note(f"key {made.record.id} ({name}) may ask for {_scope(made.record)}{_until(made.record)}; it is shown only now:")
    sys.stdout.write(f"{made.token}\n")  # as it is: a key must not be wrapped


@app.command("list", short_help="List the keys of a store.")
def list_(store: StoreUri = DEFAULT_STORE, json: AsJson = False) -> None:
    """List the keys of a store: whose they are, what they may ask for, and whether they are valid."""
    from datetime import UTC, datetime

    from cluster.storage import open_store
    from guitarfish.rendering import note, print_json, print_table
    from serving.keys import list_keys

    keys, now = list_keys(open_store(store)), datetime.now(UTC)
    if json:
        print_json([{**_public(key.record), "state": key.state(now), "revoked": key.revoked} for key in keys])
    elif keys:
        rows = [
            (key.record.id, key.record.name, key.state(now), _scope(key.record), _day(key), key.record.created_by)
            for key in keys
        ]
        print_table(["id", "name", "state", "may ask", "created", "by"], rows)
    else:
        note(f"{store} has no keys")


@app.command(short_help="Take a key back.")
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="The key's id or its name.", show_default=False)],
    store: StoreUri = DEFAULT_STORE,
    json: AsJson = False,
) -> None:
    """Take a key back. Servers refuse it within a second or two, without a restart."""
    from cluster.storage import open_store
    from guitarfish.rendering import print_json, say
    from serving.keys import revoke_key

    gone = revoke_key(open_store(store), key)
    assert gone.revoked is not None
    if json:
        print_json({**_public(gone.record), "revoked": gone.revoked})
    else:
        say(f"key {gone.record.id} ({gone.record.name}) was revoked at {gone.revoked.at:%Y-%m-%d %H:%M:%S} UTC")


def _check_scope(store: Store, name: str, adapters: list[str], *, all_adapters: bool, base: bool) -> None:
    """Refuse a key that could ask for nothing, or for what there is not.

    Raises:
        UserError: the options do not go together, or the name is none.
        RegistryError: an adapter does not exist; names the nearest.
    """
    import re

    from registry.adapters import Registry
    from runspec.errors import RegistryError, UserError
    from runspec.publish import NAME_PATTERN

    where = "guitarfish keys create"
    if not re.fullmatch(NAME_PATTERN, name):
        fix = "small letters, digits and hyphens, 63 at most, beginning with a letter or digit"
        raise UserError(f"{name!r} cannot be a key's name", where=where, fix=fix)
    if all_adapters and adapters:
        raise UserError("--all-adapters and --adapter do not go together", where=where, fix="leave out one of the two")
    if not (all_adapters or adapters or base):
        fix = "name what it may ask for: --adapter NAME, --all-adapters, --base"
        raise UserError("this key could ask for nothing", where=where, fix=fix)
    registry = Registry(store)
    for adapter in adapters:
        plain, at, _ = adapter.partition("@")
        if at:
            fix = f"write --adapter {plain}: a key is for all versions and aliases of an adapter"
            raise RegistryError(f"{adapter!r} names a version or an alias", where=where, fix=fix)
        registry.require(adapter)


def _public(record: KeyRecord) -> dict[str, object]:
    """All of it but the digest, which is no secret and no use either."""
    return record.model_dump(mode="json", exclude={"secret_sha256"})


def _scope(record: KeyRecord) -> str:
    adapters = ["every adapter"] if record.adapters is None else list(record.adapters)
    return ", ".join([*adapters, *(["the base model"] if record.base else [])])


def _until(record: KeyRecord) -> str:
    return f", until {record.expires_at:%Y-%m-%d %H:%M} UTC" if record.expires_at else ""


def _day(key: Key) -> str:
    return f"{key.record.created_at:%Y-%m-%d %H:%M}"
