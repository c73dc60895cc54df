"""Rows of a dataset on the Hugging Face hub, or of a folder laid out like one, through `datasets`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runspec.data import HubData
from runspec.errors import DataError
from runspec.paths import PACKAGE, resolve_path
from training.data.files import Row, arrow_rows

REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")


def read_hub(source: HubData, folder: Path, key: str = "data.source") -> Iterator[Row]:
    """Rows of one split, in its order, undecoded: images and audio stay bytes.

    Args:
        source: `id` is a repository, or a path that starts with `.`, `/`, `~` or `package:`.
        folder: the run file's folder, which a path starts from.
        key: the source's in the run file, for errors.

    Raises:
        DataError: the hub cannot be reached, or has no such dataset, subset, split or revision.
    """
    dataset = _load(source, folder, key)
    row = 1
    for table in dataset.with_format("arrow").iter(1000):
        yield from arrow_rows(table, f"{source.id} [{source.split}]", row)
        row += table.num_rows


def _load(source: HubData, folder: Path, key: str) -> Any:
    try:
        from datasets import load_dataset
        from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
    except ImportError as error:
        fix = "install guitarfish with its extra cpu or gpu"
        raise DataError("a hub dataset needs the package datasets", where=key, fix=fix) from error
    is_path = source.id.startswith((".", "/", "~", PACKAGE))
    if not is_path and not REPOSITORY.fullmatch(source.id):
        raise _refused(source, "has no name of a repository", f"{key}.id", "write it as owner/name")
    place = str(resolve_path(source.id, folder)) if is_path else source.id
    try:
        return load_dataset(place, source.subset, split=source.split, revision=source.revision)
    except DatasetNotFoundError as error:
        fix = "check the id and the revision; for a gated or private dataset set HF_TOKEN and accept its terms"
        raise _refused(source, f"is not on the hub: {_first_line(error)}", f"{key}.id", fix) from error
    except ConnectionError as error:
        fix = "check the network or HF_ENDPOINT, or download the data and use {kind: file} or {kind: folder}"
        raise _refused(source, f"cannot be reached: {_first_line(error)}", f"{key}.id", fix) from error
    except DatasetGenerationError as error:
        cause = error.__cause__ or error
        fix = "mend its files, or download them and use {kind: folder}, which names the row"
        raise _refused(source, f"cannot be read: {_first_line(cause)}", f"{key}.id", fix) from error
    except ValueError as error:  # unknown split or subset, malformed id: the message names what there is
        part, fix = _refused_part(str(error))
        raise _refused(source, f"cannot be loaded: {_first_line(error)}", f"{key}.{part}", fix) from error
    except OSError as error:
        fix = "check the id; it needs data files such as train.jsonl or *.parquet, and this machine disk space"
        raise _refused(source, f"cannot be loaded: {_first_line(error)}", f"{key}.id", fix) from error


def _refused_part(message: str) -> tuple[str, str]:
    """The key of the run file that `datasets` complains about, and the fix."""
    lowered = message.lower()
    if "split" in lowered or "instruction" in lowered:
        return "split", "name a split that exists; a part of it is written like train[:2000]"
    if "config" in lowered:
        return "subset", "name a subset that exists"
    return "id", "write it as owner/name"


def _refused(source: HubData, what: str, where: str, fix: str) -> DataError:
    return DataError(f"dataset {source.id!r} {what}", where=where, fix=fix)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
