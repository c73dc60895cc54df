"""`guitarfish merge`: a published adapter in, 16-bit weights that transformers and vLLM load out."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import typer

from cluster.store.storage import Store, open_store
from guitarfish.actions.running import quiet_libraries
from guitarfish.actions.sources import base_of
from guitarfish.show.rendering import note, print_facts, print_json, say
from guitarfish.verbs.options import DEFAULT_STORE, AsJson, StoreUri
from registry.adapters import Registry
from runspec.errors import RunFailedError
from training.data.example import Example
from training.data.rows import read_examples_if_there
from training.run.run_folder import TrainingFolder

HELD_OUT_ROWS = 12
"""Rows of the adapter's run that parity is measured on."""


def merge(
    adapter: Annotated[
        str, typer.Argument(metavar="NAME[@ALIAS]", help="A published adapter: NAME, NAME@ALIAS or NAME@3.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.", show_default=False)],
    store: StoreUri = DEFAULT_STORE,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="MODEL", help="Base model, if it is not found: hub id, folder or .gguf file."),
    ] = None,
    dtype: Annotated[
        Literal["bfloat16", "float16"], typer.Option("--dtype", help="Number format of the merged weights.")
    ] = "bfloat16",
    max_shard_size: Annotated[
        str, typer.Option("--max-shard-size", metavar="SIZE", help="Size of the largest file of weights.")
    ] = "5GB",
    json: AsJson = False,
) -> None:
    """Merge an adapter into its base model's weights, and compare the logits of both forms.

    The folder loads with transformers and vLLM, and as a run file's model.source. It is kept only if the merged model,
    loaded from disk, predicts what the base model with the adapter predicts; otherwise the exit code is 1.
    """
    from training.model import merging  # imports torch

    merging.check_shard_size(max_shard_size)
    merging.check_target(out)
    opened = open_store(store)
    registry = Registry(opened)
    found = registry.resolve(adapter)
    card = registry.card(found.name, found.version)
    model, spec = base_of(opened, card, base)
    note(f"merging {found.reference} into {model.label}, and comparing logits ...")
    quiet_libraries()
    rows = _held_out(opened, card.run_id)
    with TemporaryDirectory(prefix="guitarfish-merge-") as scratch:
        folder = registry.fetch(found.name, found.version, Path(scratch, "adapter"))
        record = merging.merge(merging.Merge(folder, card, model, spec, rows, out, dtype, max_shard_size))
    if json:
        print_json(record)
    else:
        _show(record, out)
    if record.parity.problems:
        raise RunFailedError(
            f"The merged model does not act like the tuned model: {'; '.join(record.parity.problems)}.",
            where=f"{out} was not kept",
            fix="Try the other --dtype, or serve the adapter unmerged with `guitarfish serve`.",
        )


def _held_out(store: Store, run_id: str) -> list[Example]:
    """The first held-out rows of the adapter's run, if this store has them."""
    if not run_id:
        return []
    folder = TrainingFolder(store, run_id).data_folder()
    return read_examples_if_there(store, folder.run_id, "holdout")[:HELD_OUT_ROWS]


def _show(record: Any, out: Path) -> None:
    parity = record.parity
    say(f"{record.adapter}@{record.version} merged into {record.base_model}, {record.dtype}")
    say("")
    print_facts(
        {
            "compared": f"{parity.positions:,} positions of {parity.texts} texts: base + adapter in float32, "
            f"and {record.dtype} weights read back",
            "logits": f"differ by {parity.mean_abs_logit:.4f} on average, {parity.max_abs_logit:.3f} at most",
            "KL": f"{parity.mean_kl:.5f} nats per token, {parity.max_kl:.4f} at most; the adapter itself moves the "
            f"base model by {parity.adapter_kl:.3f}",
            "likeliest token": f"the same at {parity.agreement:.1%} of positions",
            "weights": f"{record.bytes / 1e6:,.0f} MB, {record.digest[:19]}",
        }
    )
    if not parity.problems:
        say("")
        say(f"wrote {out}")
