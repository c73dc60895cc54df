"""`guitarfish merge`: a published adapter in, 16-bit weights that transformers and vLLM load out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cluster.store.storage import Store, open_store
from guitarfish.show.rendering import note, print_json
from guitarfish.verbs.options import DEFAULT_STORE, AsJson, StoreUri
from runspec.errors import RunFailedError
from training.data.example import Example
from training.data.rows import read_examples_if_there
from training.run.run_folder import TrainingFolder

if TYPE_CHECKING:
    from training.model.merging import MergeRecord

HELD_OUT_ROWS = 12
"""Rows of the adapter's run that parity is measured on."""


def merge(
    adapter: Annotated[
        str, typer.Argument(metavar="NAME[@ALIAS]", help="A published adapter: NAME, NAME@ALIAS or NAME@3.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.", show_default=False)],
    store: StoreUri = DEFAULT_STORE,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="MODEL", help="Base model, where it is not to be found: hub id, folder, .gguf."),
    ] = None,
    dtype: Annotated[
        Literal["bfloat16", "float16"], typer.Option("--dtype", help="Type of the merged weights.")
    ] = "bfloat16",
    max_shard_size: Annotated[
        str, typer.Option("--max-shard-size", metavar="SIZE", help="Largest file of weights.")
    ] = "5GB",
    json: AsJson = False,
) -> None:
    """Add an adapter into its base model's weights, and compare the logits of both forms.

    The folder loads with transformers and vLLM, and as a run file's model.source. It is kept only if the merged model,
    loaded from the disk, predicts what base and adapter side by side predict; else the exit code is 1.
    """
    record = _merge(adapter, out, store, base, dtype, max_shard_size)
    if json:
        print_json(record)
    else:
        _show(record, out)
    if record.parity.problems:
        raise RunFailedError(
            f"The merged model is not the tuned model: {'; '.join(record.parity.problems)}.",
            where=f"{out} was not kept",
            fix="Try the other --dtype, or serve the adapter unmerged: guitarfish serve.",
        )


def _merge(reference: str, out: Path, store: str, base: str | None, dtype: str, max_shard_size: str) -> MergeRecord:
    from tempfile import TemporaryDirectory

    from guitarfish.actions.bases import base_of
    from guitarfish.actions.driving import quiet_libraries
    from registry.adapters import Registry
    from training.model.merging import Merge, check_shard_size, check_target, merge

    check_shard_size(max_shard_size)
    check_target(out)
    opened = open_store(store)
    registry = Registry(opened)
    found = registry.resolve(reference)
    card = registry.card(found.name, found.version)
    model, spec = base_of(opened, card, base)
    note(f"merging {found.reference} into {model.label}, and comparing logits ...")
    quiet_libraries()
    rows = _held_out(opened, card.run_id)
    with TemporaryDirectory(prefix="guitarfish-merge-") as scratch:
        folder = registry.fetch(found.name, found.version, Path(scratch, "adapter"))
        return merge(Merge(folder, card, model, spec, rows, out, _dtype(dtype), max_shard_size))


def _dtype(name: str) -> Literal["bfloat16", "float16"]:
    return "float16" if name == "float16" else "bfloat16"


def _held_out(store: Store, run_id: str) -> list[Example]:
    """The first held-out rows of the adapter's run, if this store has them."""
    if not run_id:
        return []
    folder = TrainingFolder(store, run_id).data_folder()
    return read_examples_if_there(store, folder.run_id, "holdout")[:HELD_OUT_ROWS]


def _show(record: MergeRecord, out: Path) -> None:
    from guitarfish.show.rendering import print_facts, say

    parity = record.parity
    say(f"{record.adapter}@{record.version} merged into {record.base_model}, {record.dtype}")
    say("")
    print_facts(
        {
            "compared": f"{parity.positions:,} positions of {parity.texts} texts: base + adapter in float32, "
            f"and {record.dtype} weights read back",
            "logits": f"differ by {parity.mean_abs_logit:.4f} on average, {parity.max_abs_logit:.3f} at most",
            "KL": f"{parity.mean_kl:.5f} nats a token, {parity.max_kl:.4f} at most; the adapter itself moves the base "
            f"by {parity.adapter_kl:.3f}",
            "likeliest token": f"the same at {parity.agreement:.1%} of the positions",
            "weights": f"{record.bytes / 1e6:,.0f} MB, {record.digest[:19]}",
        }
    )
    if not parity.problems:
        say("")
        say(f"wrote {out}")
