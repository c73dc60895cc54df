"""`guitarfish adapters`: what is published, and which version each alias points to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster.store.storage import open_store
from guitarfish.actions.publishing import publish_folder, publish_kept_run
from guitarfish.show.rendering import dollars, note, print_facts, print_json, print_table, say
from guitarfish.verbs.options import DEFAULT_STORE, AsJson, StoreUri, verb_group
from registry.adapters import ANY, AliasMove, Registry
from registry.card import AdapterCard
from registry.references import ResolvedAdapter
from runspec.errors import UserError

app = verb_group("List, show, publish, promote and roll back adapters.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The adapter's name.", show_default=False)]
Alias = Annotated[str, typer.Option("--alias", help="The alias to move.")]
Reason = Annotated[str, typer.Option("--reason", help="Kept in the alias's history.")]


@app.command("list", short_help="List the adapters of a store.")
def list_(store: StoreUri = DEFAULT_STORE, json: AsJson = False) -> None:
    """List the adapters of a store with their latest version and their aliases."""
    registry = Registry(open_store(store))
    rows = [(entry.name, registry.card(entry.name, entry.versions[-1]), entry.aliases) for entry in registry.entries()]
    if json:
        print_json([{"adapter": name, "latest": card, "aliases": aliases} for name, card, aliases in rows])
    elif rows:
        print_table(
            ["adapter", "latest", "aliases", "base model", "published"],
            [(name, card.version, _aliases(aliases), card.base_model, _day(card)) for name, card, aliases in rows],
            right="latest",
        )
    else:
        note(f"{store} has no adapters")


@app.command(short_help="Show an adapter, or one version's card.")
def show(
    reference: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="An adapter, name@alias or name@3.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the files back and compare them with the card.")
    ] = False,
    store: StoreUri = DEFAULT_STORE,
    json: AsJson = False,
) -> None:
    """Show an adapter's versions and the history of its aliases, or the card of one version."""
    registry = Registry(open_store(store))
    if "@" in reference or verify:
        found = registry.resolve(reference)
        card = registry.verify(found.name, found.version) if verify else registry.card(found.name, found.version)
        if json:
            print_json(card)
        else:
            _show_card(card, registry)
    else:
        _show_adapter(registry, reference, json=json)


@app.command(short_help="Publish a run or a folder as a version.")
def publish(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", help="A folder that PEFT saved an adapter in.", show_default=False),
    ] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="Publish what this run trained.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="The adapter's name; by default the run file's.")] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="MODEL", help="Base model of a FOLDER: hub id, folder or .gguf file."),
    ] = None,
    alias: Annotated[str | None, typer.Option("--alias", help="Move this alias to the new version.")] = None,
    despite_gate: Annotated[
        bool, typer.Option("--despite-gate", help="Publish even if RUN did not pass its gate.")
    ] = False,
    store: StoreUri = DEFAULT_STORE,
    json: AsJson = False,
) -> None:
    """Publish an adapter as the next version of its name, from a finished run or from a folder."""
    registry = Registry(open_store(store))
    if folder is None and run is not None:
        card = publish_kept_run(registry, run, name, despite_gate=despite_gate)
    elif folder is not None and run is None:
        card = publish_folder(registry, folder, name, base)
    else:
        what = "Nothing to publish was named." if run is None else "Both a folder and a run were given."
        raise UserError(what, where="guitarfish adapters publish", fix="Give either FOLDER or --run RUN.")
    if alias is not None:
        registry.promote(card.adapter, card.version, alias, reason="published")
    if json:
        print_json({"card": card, "alias": alias})
        return
    say(f"published {card.adapter}@{card.version}" + (f"; {card.adapter}@{alias} now points to it" if alias else ""))
    if alias is None:
        say(f"to use it: guitarfish adapters promote {card.adapter} {card.version}")


@app.command(short_help="Point an alias to a version.")
def promote(
    name: Name,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="The version to point to.", show_default=False)],
    alias: Alias = "prod",
    expected: Annotated[
        int | None, typer.Option("--expected", metavar="VERSION", help="Only if the alias points to this version now.")
    ] = None,
    reason: Reason = "",
    store: StoreUri = DEFAULT_STORE,
    json: AsJson = False,
) -> None:
    """Point an alias to a version. Servers follow without a restart."""
    registry = Registry(open_store(store))
    move = registry.promote(name, version, alias, expected=ANY if expected is None else expected, reason=reason)
    _show_move(name, alias, move, json=json)


@app.command(short_help="Point an alias back.")
def rollback(
    name: Name,
    alias: Alias = "prod",
    steps: Annotated[int, typer.Option("--steps", min=1, help="How many moves to go back.")] = 1,
    reason: Reason = "rolled back",
    store: StoreUri = DEFAULT_STORE,
    json: AsJson = False,
) -> None:
    """Point an alias back to where it pointed before. Done twice, it goes back twice."""
    _show_move(name, alias, Registry(open_store(store)).rollback(name, alias, steps, reason), json=json)


def _show_move(name: str, alias: str, move: AliasMove, *, json: bool) -> None:
    if json:
        print_json({"adapter": name, "alias": alias, "move": move})
    else:
        say(f"{name}@{alias} now points to version {move.version}")


def _show_adapter(registry: Registry, name: str, *, json: bool) -> None:
    versions = registry.versions(name)
    if not versions:
        registry.resolve(name)  # raises, with the nearest name
    cards = [registry.card(name, version) for version in versions]
    aliases = registry.aliases(name)
    moves = [(alias, move) for alias in aliases for move in registry.alias_history(name, alias)]
    if json:
        listed = [{"alias": alias, "move": move} for alias, move in moves]
        print_json({"adapter": name, "versions": cards, "aliases": aliases, "history": listed})
        return
    say(f"{name}: {_aliases(aliases)}")
    say("")
    rows = [(card.version, _day(card), card.rank, _best(card), dollars(card.cost_usd), card.run_id) for card in cards]
    print_table(["version", "published", "rank", "scores", "cost", "run"], rows, right="version rank cost")
    say("")
    history = sorted(moves, key=lambda each: each[1].at)
    print_table(
        ["alias", "to", "when", "by", "reason"],
        [(alias, move.version, f"{move.at:%Y-%m-%d %H:%M}", move.by, move.reason) for alias, move in history],
        right="to",
    )


def _show_card(card: AdapterCard, registry: Registry) -> None:
    say(f"{card.adapter}@{card.version}")
    say("")
    print_facts(
        {
            "base model": f"{card.base_model} ({card.base_kind})",
            "base digest": card.base_digest,
            "adapter": f"rank {card.rank}, alpha {card.alpha:g}{', rsLoRA' if card.rslora else ''}",
            "method": card.method,
            "targets": ", ".join(card.targets),
            "weights sha256": card.weights_sha256,
            "run": card.run_id or None,
            "data digest": card.data_digest or None,
            "cost": dollars(card.cost_usd),
            "published": f"{card.created_at:%Y-%m-%d %H:%M} UTC",
            "canary": f"{len(card.canary.answer_token_ids)} tokens" if card.canary else "none",
            "place": f"{registry.store.uri}/{ResolvedAdapter(card.adapter, card.version).folder}",
        }
    )
    if card.scores:
        say("")
        rows = [
            (name, *map(_number, (one.before, one.after, one.gain)), _interval(one.low, one.high), one.n)
            for name, one in card.scores.items()
        ]
        print_table(["metric", "before", "after", "gain", "95 % interval", "n"], rows, right="before after gain n")


def _aliases(aliases: dict[str, int]) -> str:
    return ", ".join(f"{alias} -> {version}" for alias, version in aliases.items()) or "no alias"


def _day(card: AdapterCard) -> str:
    return f"{card.created_at:%Y-%m-%d %H:%M}"


def _best(card: AdapterCard) -> str:
    return ", ".join(f"{name} {score.after:.3g}" for name, score in list(card.scores.items())[:3])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.3g} to {high:.3g}"
