"""Secrets that tests plant in the environment, and the search for them in all that a command left behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from cluster.store.storage import Store

PLANTED = {
    "HF_TOKEN": "hf_planted0000HubToken0000",
    "WANDB_API_KEY": "planted0000tracker0000key",
    "GUITARFISH_API_KEY": "gf-0badcafe-planted0000client0000key0000",
    "SOME_PASSWORD": "planted0000pass0000word",
}
"""Beside the store's own AWS_SECRET_ACCESS_KEY, which the S3 fixture sets."""


def find_in_texts(texts: Mapping[str, str | bytes], secrets: Iterable[str]) -> list[str]:
    """`NAME: SECRET` for each secret found in a text."""
    found = []
    for name, text in texts.items():
        content = text.encode() if isinstance(text, str) else text
        found += [f"{name}: {secret}" for secret in secrets if secret.encode() in content]
    return found


def find_in_store(store: Store, secrets: Iterable[str]) -> list[str]:
    """The same in every file of a store, and in the files' names."""
    secrets = list(secrets)
    paths = store.walk()
    return find_in_texts({path: store.read(path) for path in paths} | {"paths": "\n".join(paths)}, secrets)


def find_in_folder(folder: Path, secrets: Iterable[str]) -> list[str]:
    """The same in every file below a folder, sockets apart."""
    secrets = list(secrets)
    return [
        hit
        for file in folder.rglob("*")
        if file.is_file() and not file.is_symlink()
        for hit in find_in_texts({str(file): file.read_bytes()}, secrets)
    ]
