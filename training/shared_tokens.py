"""Tokenised rows shared by the trials of a search: made once on a machine, then read from its cache."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from cluster.cache import cache_folder
from runspec.run import RunSpec
from training.data import chat, template
from training.data.example import Example
from training.job import TrainJob
from training.method import TokenizedRows, TrainerParts, TrainingMethod

log = logging.getLogger(__name__)
FACTS = "facts.json"


def shared(method: TrainingMethod, job: TrainJob) -> TrainingMethod:
    """The method as it is; for a run on another run's data, with its tokenised rows out of the cache."""
    return CachedMethod(method) if job.data_run else method


@dataclass(frozen=True)
class CachedMethod:
    """A training method whose tokenised rows are kept below the cache folder, by a digest of all that makes them."""

    method: TrainingMethod

    def first_loss(self, spec: RunSpec) -> float | None:
        """As the method says."""
        return self.method.first_loss(spec)

    def can_train_on(self, example: Example) -> bool:
        """As the method says."""
        return self.method.can_train_on(example)

    def remarks(self, spec: RunSpec, examples: Sequence[Example]) -> list[str]:
        """As the method says."""
        return self.method.remarks(spec, examples)

    def build_trainer(self, parts: TrainerParts) -> Any:
        """As the method does."""
        return self.method.build_trainer(parts)

    def tokenize_rows(self, examples: Sequence[Example], tokenizer: Any, spec: RunSpec) -> TokenizedRows:
        """From the cache, or by the method and then kept. Raises DataError as the method does."""
        folder = cache_folder("tokens") / digest(self.method, examples, tokenizer, spec)
        if not (folder / FACTS).exists():
            rows = self.method.tokenize_rows(examples, tokenizer, spec)
            _keep(rows, folder)
            return rows
        return _read(folder)


def digest(method: TrainingMethod, examples: Sequence[Example], tokenizer: Any, spec: RunSpec) -> str:
    """sha256 over the rows, the tokenizer with its chat template, the lengths, and the code that makes rows of them."""
    whole = hashlib.sha256()
    for example in examples:
        whole.update(json.dumps(example.to_json(), sort_keys=True).encode() + b"\n")
    settings = [
        tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else f"{type(tokenizer)} {tokenizer.get_vocab()}",
        str(tokenizer.chat_template),
        str(tokenizer.special_tokens_map),
        spec.method.model_dump_json(),
        f"{spec.data.max_length} {spec.data.too_long}",
        *(inspect.getsource(part) for part in (chat, template, method) if isinstance(part, ModuleType)),
    ]
    for setting in settings:
        whole.update(setting.encode(errors="surrogatepass") + b"\0")
    return whole.hexdigest()[:32]


def _keep(rows: TokenizedRows, folder: Path) -> None:
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    rows.dataset.save_to_disk(str(scratch))
    facts = {"fates": rows.fates, "tokens": rows.tokens, "supervised": rows.supervised}
    (scratch / FACTS).write_text(json.dumps(facts))
    try:
        scratch.rename(folder)
    except OSError:  # another trial on this machine was first
        shutil.rmtree(scratch, ignore_errors=True)


def _read(folder: Path) -> TokenizedRows:
    from datasets import load_from_disk

    log.info("tokenised rows from %s", folder)
    return TokenizedRows(dataset=load_from_disk(str(folder)), **json.loads((folder / FACTS).read_text()))
