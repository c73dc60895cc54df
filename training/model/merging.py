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
"""Length of the tuned model's own answers to general prompts, on which parity is measured."""
LONGEST_TEXT = 256
"""Texts are cut to this many tokens."""


class MergeRecord(Strict):
    """What a merged folder was made from; it lies in it as guitarfish-merge.json."""

    adapter: str
    version: int
    adapter_sha256: str
    """Of its adapter_model.safetensors."""
    run_id: str
    base_model: str
    base_digest: str
    dtype: Dtype
    """The type of the merged weights."""
    digest: str
    """Identifies the merged weights, as the digest of a folder given as base model does."""
    bytes: int
    """Of the weights."""
    parity: Parity


@dataclass(frozen=True)
class Merge:
    """What is merged, and where to.

    Attributes:
        adapter: folder with adapter_config.json and adapter_model.safetensors.
        card: of that adapter.
        base: its base model.
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
        """The base model in float32, unquantised: what is added to and what is compared with."""
        return self.model.model_copy(update={"quantization": Unquantised(), "dtype": "float32", "attention": "auto"})


def merge(job: Merge) -> MergeRecord:
    """Add the adapter to the weights in float32, round once to 16 bits, write, load what was written, compare.

    Takes 4 bytes of memory for each weight of the base model, and 2 on the disk. The folder appears whole, and only
    if its parity is good.

    Returns:
        What was made; `parity.problems` says why the folder was not kept, if it was not.

    Raises:
        UserError: the folder is there already, the disk or the memory is too small, or the adapter cannot be merged.
    """
    check_adapter(job.adapter / "adapter_config.json")
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
            _publish(scratch, job.target)
    return record


def check_adapter(config_file: Path) -> None:
    """See that the adapter is one that adds to weight matrices and does nothing else.

    Raises:
        RegistryError: DoRA, trained biases, or whole modules beside the matrices.
    """
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
    """See that the folder can be made.

    Raises:
        UserError: something has that name already, or the folder above is not there or may not be written to.
    """
    if target.exists() or target.is_symlink():
        raise UserError(f"{target} is there already.", where=str(target), fix="Name a folder that does not exist yet.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        raise UserError(
            f"{target} cannot be made: {error.strerror}.", where=str(target.parent), fix="Name another place for it."
        ) from error


def check_shard_size(text: str) -> None:
    """See that a size such as `5GB` is one. Raises UserError."""
    if not re.fullmatch(r"[1-9][0-9]*(KB|MB|GB|TB)", text.upper()):
        raise UserError(f"{text!r} is no file size.", where="--max-shard-size", fix="Write it as 5GB or 500MB.")


def _check_room(job: Merge) -> None:
    weights = sum(parameter.numel() for parameter in skeleton(job.base, job.plain).parameters())
    free = shutil.disk_usage(job.target.parent).free
    if free < 2 * weights:
        raise UserError(
            f"The merged weights need {2 * weights / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free.",
            where=str(job.target.parent),
            fix="Free some space, or name a place on another disk.",
        )
    memory = detect().memory_bytes
    if memory < 4 * weights:
        raise HardwareError(
            f"Merging {job.base.label} needs {4 * weights / 1e9:.0f} GB of memory (its weights in float32), "
            f"and this machine has {memory / 1e9:.0f} GB.",
            where="memory",
            fix="Merge on a machine with more memory, or serve the adapter as it is: guitarfish serve.",
        )


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """A folder beside the target, so that a rename puts it in place; gone at the end if it is still there."""
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        yield folder
    except OSError as error:
        raise UserError(
            f"{target} cannot be written: {error.strerror or error}.", where=str(target), fix="Free some space there."
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(scratch: Path, target: Path) -> None:
    """Put the folder in place, readable as other files are: temporary folders and safetensors are the owner's only."""
    for file in scratch.iterdir():
        file.chmod(0o644)
    scratch.chmod(0o755)
    scratch.rename(target)


def _write_and_compare(job: Merge, folder: Path) -> Parity:
    tokenizer = load_tokenizer(job.base, job.model, Path())
    model = load_adapter(load_base(job.base, job.plain, quantised=False, device_map={"": "cpu"}), job.adapter)
    texts = _texts(job, model, tokenizer)
    reference, base = tails(model, texts), tails(model, texts, adapter=False)
    _write(job, _add(model, job.dtype), tokenizer, folder)
    del model
    written = BaseModel(folder, "", "the merged folder", "folder")
    return compare(reference, tails(_load(written, job), texts), base)


def _add(model: Any, dtype: Dtype) -> Any:
    """The base model with every update added in float32, one layer after another, then rounded.

    PEFT's own merge gives the same for a float32 model; it rounds twice for one held in 16 bits.
    """
    import torch
    from peft.tuners.lora import LoraLayer

    tied = model.get_base_model().get_output_embeddings()
    for layer in [module for module in model.modules() if isinstance(module, LoraLayer)]:
        for adapter in layer.active_adapters:
            weight = layer.get_base_layer().weight
            updated = weight.data + layer.get_delta_weight(adapter).to(torch.float32)
            layer.get_base_layer().weight = torch.nn.Parameter(updated, requires_grad=False)
    plain = model.unload()
    if isinstance(tied, LoraLayer):  # the head has an update of its own: it is no longer the embedding
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
    if own.is_file():  # copied as it is: transformers refuses to write some of those that models come with
        model.generation_config = GenerationConfig()
    model.save_pretrained(folder, max_shard_size=job.max_shard_size)
    tokenizer.save_pretrained(folder)
    if own.is_file():
        shutil.copyfile(own, folder / own.name)


def _load(written: BaseModel, job: Merge) -> Any:
    """What was written, as transformers loads it, in its own 16-bit type."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        str(written.folder), dtype=getattr(torch, job.dtype), trust_remote_code=job.model.trust_remote_code
    )


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
