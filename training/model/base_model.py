"""The base model on this machine: found or fetched, identified by a digest, loaded."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.machine.cache import cache_folder, file_sha256
from cluster.machine.hardware import detect
from runspec.errors import ModelError
from runspec.model import FolderModel, GgufModel, HubModel, ModelSpec, Nf4
from runspec.paths import resolve_path

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

WEIGHT_FILES = ("*.safetensors", "*.bin")
HUB_SECONDS = 30
HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "tokenizer*"]


@dataclass(frozen=True)
class BaseModel:
    """A base model as a folder on this machine.

    Attributes:
        folder: what `from_pretrained` reads: config, tokenizer, safetensors.
        digest: two folders with the same digest give the same logits.
        label: for people: hub id, folder name, GGUF file name.
        kind: `hub`, `folder` or `gguf`.
    """

    folder: Path
    digest: str
    label: str
    kind: str


def materialise(spec: ModelSpec, folder: Path, *, weights: bool = True) -> BaseModel:
    """Find or fetch the base model, and turn a GGUF file into a folder once.

    Args:
        folder: the run file's folder, which relative paths start from.
        weights: False fetches a hub model without its weights: enough for the tokenizer and the digest.

    Raises:
        ModelError: it cannot be found or fetched, or is not a model.
    """
    match spec.source:
        case HubModel():
            path = _fetch(spec.source, weights=weights)
            return BaseModel(path, hub_digest(spec.source.id, path.name), spec.source.id, "hub")
        case FolderModel():
            path = resolve_path(spec.source.path, folder)
            _check_folder(path)
            return BaseModel(path, _folder_digest(path), path.name, "folder")
        case GgufModel():
            file = resolve_path(spec.source.path, folder)
            _check_gguf(file)
            digest = f"gguf:{file_sha256(file)}"
            return BaseModel(_dequantised(file, digest), digest, file.name, "gguf")


def on_this_machine(base: BaseModel, spec: ModelSpec) -> BaseModel:
    """The base model that a run's driver found, on this machine: fetched or made if needed, never hashed again.

    Raises:
        ModelError: it cannot be found or fetched here.
    """
    if _has_weights(base.folder):
        return base
    match spec.source:
        case HubModel():
            commit = base.digest.rpartition("@")[2]
            return replace(base, folder=_fetch(spec.source.model_copy(update={"revision": commit})))
        case FolderModel():
            _check_folder(base.folder)
            return base
        case GgufModel():
            file = resolve_path(spec.source.path, Path())
            _check_gguf(file)
            return replace(base, folder=_dequantised(file, base.digest))


def _fetch(source: HubModel, *, weights: bool = True) -> Path:
    from huggingface_hub import snapshot_download

    with _hub_faults(source):
        path = Path(
            snapshot_download(
                source.id,
                revision=source.revision,
                allow_patterns=HUB_FILES,
                ignore_patterns=None if weights else list(WEIGHT_FILES),
            )
        )
    _check_folder(path, weights=weights)
    return path


def hub_digest(model_id: str, commit: str) -> str:
    return f"hub:{model_id}@{commit}"


def pin_hub_model(source: HubModel) -> HubModel:
    """The model at the commit that its branch or tag points to now. Raises ModelError."""
    from huggingface_hub import HfApi

    if re.fullmatch(r"[0-9a-f]{40}", source.revision):
        return source
    with _hub_faults(source):
        commit = HfApi().model_info(source.id, revision=source.revision, timeout=HUB_SECONDS).sha
    return source.model_copy(update={"revision": commit})


@contextmanager
def _hub_faults(source: HubModel) -> Iterator[None]:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    where = f"model.source.id: {source.id}"
    try:
        yield
    except GatedRepoError as error:
        raise ModelError(
            f"`{source.id}` is gated on the hub.", where=where, fix="Accept its terms on its page, then set HF_TOKEN."
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"Revision `{source.revision}` of `{source.id}` not found on the hub.",
            where="model.source.revision",
            fix="Try `main`.",
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"Model `{source.id}` not found on the hub, or private.",
            where=where,
            fix="Check the spelling; for a private model set HF_TOKEN.",
        ) from error
    except Exception as error:  # the hub client raises httpx, OS and its own errors for one thing: no connection
        raise ModelError(
            f"`{source.id}` could not be fetched from the hub: {_first_line(error)}",
            where=where,
            fix="Check the network (HTTPS_PROXY, HF_ENDPOINT), or use a local copy: `{kind: folder, path: ...}`.",
        ) from error


def _check_gguf(file: Path) -> None:
    where = f"model.source.path: {file}"
    if not file.is_file():
        raise ModelError(f"File {file} not found.", where=where, fix="Name an existing .gguf file.")
    with file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise ModelError(
                f"{file.name} is not a GGUF file: it does not start with `GGUF`.",
                where=where,
                fix="For a folder of safetensors use `{kind: folder, path: ...}`.",
            )


def _dequantised(file: Path, digest: str) -> Path:
    target = cache_folder("models") / f"gguf-{digest.removeprefix('gguf:')[:16]}"
    if not (target / "config.json").exists():
        _dequantise(file, target)
    return target


def _dequantise(file: Path, target: Path) -> None:
    """Write `file` as a folder of bfloat16 safetensors, under another name until it is complete."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    source: dict[str, Any] = {"gguf_file": file.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), **source)
        model = AutoModelForCausalLM.from_pretrained(
            str(file.parent),
            **source,
            quantization_config=GgufConfig(gguf_file=file.name, dequantize=True),
            dtype=torch.bfloat16,
        )
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
    except Exception as error:  # the reader raises all kinds of errors
        shutil.rmtree(scratch, ignore_errors=True)
        raise ModelError(
            f"{file.name} cannot be read as a model: {_first_line(error)}",
            where=f"model.source.path: {file}",
            fix="Check that the download is complete and that transformers can read this architecture from GGUF.",
        ) from error
    try:
        scratch.rename(target)
    except OSError:  # another worker on this machine was first
        shutil.rmtree(scratch, ignore_errors=True)


def _check_folder(path: Path, *, weights: bool = True) -> None:
    where = f"model.source: {path}"
    if not path.is_dir():
        raise ModelError(f"Folder {path} not found.", where=where, fix="Name a folder that `save_pretrained` wrote.")
    config = path / "config.json"
    if not config.exists():
        hint = (
            "This is an adapter: name the base model it was trained on."
            if (path / "adapter_config.json").exists()
            else "Name a folder that `save_pretrained` wrote."
        )
        raise ModelError(f"{path} has no config.json, so it is not a model folder.", where=where, fix=hint)
    try:
        json.loads(config.read_text())
    except ValueError as error:
        raise ModelError(
            f"{config} is not valid JSON: {error}.", where=where, fix="Copy the model folder again."
        ) from error
    if weights and not _weight_files(path):
        raise ModelError(f"{path} has no weights (*.safetensors).", where=where, fix="Copy the weights there too.")


def _weight_files(folder: Path) -> list[Path]:
    return sorted(file for pattern in WEIGHT_FILES for file in folder.glob(pattern))


def _has_weights(folder: Path) -> bool:
    """Whether all of a model's weights are there: an interrupted hub download leaves only some."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        return all((folder / name).exists() for name in set(json.loads(index.read_text())["weight_map"].values()))
    return bool(_weight_files(folder))


def _folder_digest(path: Path) -> str:
    """sha256 of the config's and the weights' names and digests."""
    whole = hashlib.sha256()
    for file in sorted([*_weight_files(path), path / "config.json"]):
        whole.update(f"{file.name}:{file_sha256(file)}\n".encode())
    return f"folder:{whole.hexdigest()}"


def load_tokenizer(base: BaseModel, spec: ModelSpec, folder: Path) -> Any:
    """The base model's tokenizer, with the run file's chat template if it names one.

    Raises:
        ModelError: the tokenizer cannot be loaded, or the template is missing or not valid Jinja.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(base.folder), trust_remote_code=spec.trust_remote_code)
    except Exception as error:  # see _dequantise
        raise ModelError(
            f"The tokenizer of {base.label} cannot be loaded: {_first_line(error)}",
            where=f"model.source: {base.folder}",
            fix="The folder needs the tokenizer files too (tokenizer.json, tokenizer_config.json).",
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if spec.chat_template is not None:
        tokenizer.chat_template = _read_template(resolve_path(spec.chat_template, folder))
    return tokenizer


def _read_template(file: Path) -> str:
    import jinja2

    if not file.is_file():
        raise ModelError(f"File {file} not found.", where="model.chat_template", fix="Name an existing Jinja file.")
    text = file.read_text()
    try:
        jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(
            text.replace("{% generation %}", "").replace("{% endgeneration %}", "")
        )
    except jinja2.TemplateSyntaxError as error:
        raise ModelError(
            f"The chat template is not valid Jinja: {error.message}",
            where=f"{file}:{error.lineno}",
            fix="Fix that line; the model's own template is in its tokenizer_config.json.",
        ) from error
    return text


def compute_dtype(spec: ModelSpec) -> torch.dtype:
    """The type of matrix products: the run file's, or bfloat16 if the hardware supports it."""
    import torch

    if spec.dtype != "auto":
        dtype: torch.dtype = getattr(torch, spec.dtype)
        return dtype
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if detect().multiplies_bfloat16 else torch.float32


def attention_implementation(spec: ModelSpec) -> str:
    """The run file's, or the best that runs here. Raises ModelError for flash attention where it cannot run."""
    import torch
    from transformers.utils import is_flash_attn_2_available

    flash = torch.cuda.is_available() and is_flash_attn_2_available()
    if spec.attention == "auto":
        return "flash_attention_2" if flash else "sdpa"
    if spec.attention == "flash_attention_2" and not flash:
        why = "this machine has no GPU" if not torch.cuda.is_available() else "the package flash-attn is not installed"
        raise ModelError(
            f"model.attention is flash_attention_2, but {why}.",
            where="model.attention",
            fix="Set model.attention: auto, which uses it where it can run.",
        )
    return spec.attention


def load_base(
    base: BaseModel,
    spec: ModelSpec,
    *,
    quantised: bool,
    device_map: dict[str, str],
    dtype: torch.dtype | None = None,
    sharded: bool = False,
) -> Any:
    """Load the base model.

    Args:
        quantised: apply `spec.quantization`; False loads the weights in the compute type, as serving does.
        device_map: module names to `cpu` or `cuda:N`; an empty name means all.
        dtype: compute type; None uses `compute_dtype(spec)`.
        sharded: keep four-bit weights in a type that ZeRO-3 can shard.

    Raises:
        ModelError: the architecture is unknown, the weights are damaged, or the GPU ran out of memory.
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    options: dict[str, Any] = {
        "dtype": dtype or compute_dtype(spec),
        "attn_implementation": attention_implementation(spec),
        "trust_remote_code": spec.trust_remote_code,
        "device_map": device_map,
    }
    if quantised and isinstance(spec.quantization, Nf4):
        storage = spec.quantization.storage
        if storage == "auto":
            storage = "bfloat16" if sharded else "uint8"
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=spec.quantization.double,
            bnb_4bit_compute_dtype=options["dtype"],
            bnb_4bit_quant_storage=storage,
        )
    try:
        return _without_repacking(AutoModelForCausalLM.from_pretrained(str(base.folder), **options))
    except torch.cuda.OutOfMemoryError as error:
        raise ModelError(
            f"{base.label} does not fit on {', '.join(sorted(set(device_map.values())))}: {_first_line(error)}",
            where="model",
            fix="Set model.quantization: {kind: nf4}, or use a GPU with more memory.",
        ) from error
    except Exception as error:  # see _dequantise
        raise ModelError(
            f"{base.label} cannot be loaded: {_first_line(error)}",
            where=f"model.source: {base.folder}",
            fix="Check that the folder is complete and that this transformers version supports the architecture.",
        ) from error


def _without_repacking(model: Any) -> Any:
    """Keep four-bit weights in the layout that training and ZeRO-3 need.

    On CPUs with AVX-512 BF16, bitsandbytes 0.50 repacks a layer for good at its first forward pass in evaluation mode:
    from then on it passes no gradient in training, without an error, and ZeRO-3 cannot save it.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def skeleton(base: BaseModel, spec: ModelSpec) -> Any:
    """The base model's modules without weights (torch's meta device), which take no memory.

    Raises:
        ModelError: this transformers version does not support the architecture.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(str(base.folder), trust_remote_code=spec.trust_remote_code)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=spec.trust_remote_code)
    except Exception as error:  # see _dequantise
        raise ModelError(
            f"{base.label} cannot be built as a causal language model: {_first_line(error)}",
            where=f"model.source: {base.folder / 'config.json'}",
            fix="Name a text model that this transformers version supports.",
        ) from error


def local_device() -> str:
    """The GPU that Ray or torchrun gave this worker, or the CPU."""
    import torch

    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
