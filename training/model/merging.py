"""Merging: an adapter added into its base model's weights, written as a model folder of its own."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from cluster.machine.hardware import detect
from registry.card import AdapterCard
from registry.weights import read_config
from runspec.errors import HardwareError, ModelError, RegistryError, UserError
from runspec.model import FolderModel, ModelSpec, Unquantised
from runspec.strict import Strict
from training.data.example import Example
from training.evaluation.general import built_in_prompts
from training.evaluation.generate import answer_ids
from training.model.base_model import BaseModel, load_base, load_tokenizer, materialise, skeleton
from training.model.lora import load_adapter
from training.model.parity import Parity, compare, tails
from training.tokens.chat import render_prompt, tokenize
from training.tokens.stop_tokens import stop_token_ids

Dtype = Literal["bfloat16", "float16"]
RECORD = "guitarfish-merge.json"
GENERAL_PROMPTS = 12
ANSWER_TOKENS = 16
"""Length of the tuned model's answers to general prompts, on which parity is measured."""
LONGEST_TEXT = 256
"""Texts are cut to this many tokens."""


class MergeRecord(Strict):
    """What a merged folder was made from; stored in it as guitarfish-merge.json."""

    adapter: str
    version: int
    adapter_sha256: str
    """Of its adapter_model.safetensors."""
    run_id: str
    base_model: str
    base_digest: str
    dtype: Dtype
    """Of the merged weights."""
    digest: str
    """Of the merged weights, the same as that of a folder given as base model."""
    bytes: int
    """Of the weights."""
    parity: Parity


@dataclass(frozen=True)
class Merge:
    """What is merged, and where to.

    Attributes:
        adapter: folder with adapter_config.json and adapter_model.safetensors.
        card: the adapter's.
        model: how the base model is loaded; its source's paths are absolute.
        examples: held-out rows to measure parity on, beside the canary and general prompts.
        target: the folder to make.
        max_shard_size: largest file of weights, as in `5GB`.
    """

    adapter: Path
    card: AdapterCard
    base: BaseModel
    model: ModelSpec
    examples: Sequence[Example]
    target: Path
    dtype: Dtype
    max_shard_size: str

    @property
    def plain(self) -> ModelSpec:
        """The base model in float32, unquantised: what is added to and compared with."""
        return self.model.model_copy(update={"quantization": Unquantised(), "dtype": "float32", "attention": "auto"})


def merge(job: Merge) -> MergeRecord:
    """Add the adapter to the weights in float32, round once to 16 bits, write, load what was written, compare.

    Takes 4 bytes of memory and 2 of disk for each weight of the base model. The folder appears whole, and only if its
    parity is good; else `parity.problems` says why not.

    Raises:
        UserError: the folder already exists, the disk or the memory is too small, or the adapter cannot be merged.
    """
    _check_adapter(job.adapter / "adapter_config.json")
    check_target(job.target)
    check_shard_size(job.max_shard_size)
    _check_room(job)
    with _scratch(job.target) as scratch:
        parity = _write_and_compare(job, scratch)
        made = materialise(ModelSpec(source=FolderModel(path=str(scratch))), Path())
        record = MergeRecord(
            adapter=job.card.adapter,
            version=job.card.version,
            adapter_sha256=job.card.weights_sha256,
            run_id=job.card.run_id,
            base_model=job.base.label,
            base_digest=job.base.digest,
            dtype=job.dtype,
            digest=made.digest,
            bytes=sum(file.stat().st_size for file in scratch.glob("*.safetensors")),
            parity=parity,
        )
        if not parity.problems:
            (scratch / RECORD).write_text(record.model_dump_json(indent=1) + "\n")
            for file in scratch.iterdir():  # temporary folders and safetensors are readable by their owner only
                file.chmod(0o644)
            scratch.chmod(0o755)
            scratch.rename(job.target)
    return record


def _check_adapter(config_file: Path) -> None:
    """Raise RegistryError if the adapter does more than add to weight matrices."""
    config = read_config(config_file)
    odd = {
        "use_dora: true": config.get("use_dora"),
        f"bias: {config.get('bias')}": config.get("bias", "none") != "none",
        f"modules_to_save: {config.get('modules_to_save')}": config.get("modules_to_save"),
        f"target_parameters: {config.get('target_parameters')}": config.get("target_parameters"),
        f"trainable_token_indices: {config.get('trainable_token_indices')}": config.get("trainable_token_indices"),
    }
    found = [name for name, present in odd.items() if present]
    if found:
        raise RegistryError(
            f"This adapter is more than LoRA matrices: {'; '.join(found)}.",
            where=str(config_file),
            fix="Merge it with PEFT's merge_and_unload; Guitarfish merges plain LoRA and rsLoRA.",
        )


def check_target(target: Path) -> None:
    """Raise UserError if the folder exists or cannot be made."""
    if target.exists() or target.is_symlink():
        raise UserError(f"{target} already exists.", where=str(target), fix="Name a folder that does not exist yet.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        raise UserError(
            f"{target} cannot be made: {error.strerror}.", where=str(target.parent), fix="Name another folder."
        ) from error


def check_shard_size(text: str) -> None:
    if not re.fullmatch(r"[1-9][0-9]*(KB|MB|GB|TB)", text.upper()):
        raise UserError(f"`{text}` is not a file size.", where="--max-shard-size", fix="Write it as 5GB or 500MB.")


def _check_room(job: Merge) -> None:
    weights = sum(parameter.numel() for parameter in skeleton(job.base, job.plain).parameters())
    free = shutil.disk_usage(job.target.parent).free
    if free < 2 * weights:
        raise UserError(
            f"The merged weights need {2 * weights / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free.",
            where=str(job.target.parent),
            fix="Free some space, or name a folder on another disk.",
        )
    memory = detect().memory_bytes
    if memory < 4 * weights:
        raise HardwareError(
            f"Merging {job.base.label} needs {4 * weights / 1e9:.0f} GB of memory (its weights in float32), "
            f"but this machine has only {memory / 1e9:.0f} GB.",
            where="memory",
            fix="Merge on a machine with more memory, or serve the adapter as it is: guitarfish serve.",
        )


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """A folder beside the target, so that a rename puts it in place; removed at the end if it is still there."""
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        yield folder
    except OSError as error:
        raise UserError(
            f"{target} cannot be written: {error.strerror or error}.", where=str(target), fix="Free some space there."
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_and_compare(job: Merge, folder: Path) -> Parity:
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(job.base, job.model, Path())
    model = load_adapter(load_base(job.base, job.plain, quantised=False, device_map={"": "cpu"}), job.adapter)
    texts = _texts(job, model, tokenizer)
    reference, base = tails(model, texts), tails(model, texts, adapter=False)
    _write(job, _add(model, job.dtype), tokenizer, folder)
    del model
    written = AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=getattr(torch, job.dtype), trust_remote_code=job.model.trust_remote_code
    )
    return compare(reference, tails(written, texts), base)


def _add(model: Any, dtype: Dtype) -> Any:
    """The base model with every update added in float32, one layer after another, then rounded.

    PEFT's own merge gives the same for a float32 model; it rounds twice for one held in 16 bits.
    """
    from peft.tuners.lora import LoraLayer

    tied = model.get_base_model().get_output_embeddings()
    for layer in [module for module in model.modules() if isinstance(module, LoraLayer)]:
        for adapter in layer.active_adapters:
            weight = layer.get_base_layer().weight
            updated = weight.data + layer.get_delta_weight(adapter).to(torch.float32)
            layer.get_base_layer().weight = torch.nn.Parameter(updated, requires_grad=False)
    plain = model.unload()
    if isinstance(tied, LoraLayer):  # the head has its own update: it is no longer the embedding
        plain.config.tie_word_embeddings = False
    plain = plain.to(getattr(torch, dtype))
    for name, parameter in plain.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ModelError(
                f"{name} has values that {dtype} cannot hold.", where=f"--dtype {dtype}", fix="Use --dtype bfloat16."
            )
    return plain


def _write(job: Merge, model: Any, tokenizer: Any, folder: Path) -> None:
    from transformers import GenerationConfig

    own = job.base.folder / "generation_config.json"
    if own.is_file():  # copied: transformers refuses to write some of those that models come with
        model.generation_config = GenerationConfig()
    model.save_pretrained(folder, max_shard_size=job.max_shard_size)
    tokenizer.save_pretrained(folder)
    if own.is_file():
        shutil.copyfile(own, folder / own.name)


def _texts(job: Merge, model: Any, tokenizer: Any) -> list[list[int]]:
    """Token ids to compare on: the card's canary, held-out rows, and the tuned model's answers to general prompts."""
    found = [job.card.canary.prompt_token_ids + job.card.canary.answer_token_ids] if job.card.canary else []
    for example in job.examples:
        found += [piece.input_ids for piece in tokenize(example, tokenizer, max_length=2**30, too_long="drop").pieces]
    general = built_in_prompts()[:GENERAL_PROMPTS]
    if tokenizer.chat_template:
        prompts = [render_prompt([{"role": "user", "content": prompt}], tokenizer) for prompt in general]
    else:
        prompts = tokenizer(general).input_ids
    answers = answer_ids(
        model,
        tokenizer,
        prompts,
        max_new_tokens=ANSWER_TOKENS,
        batch_size=GENERAL_PROMPTS,
        stop_ids=stop_token_ids(tokenizer),
    )
    found += [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    return [text[-LONGEST_TEXT:] for text in found if len(text) > 1]
