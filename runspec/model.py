"""The base model: where it comes from, how its weights are held while training."""

from typing import Annotated, Literal

from pydantic import Field

from runspec.paths import FilePath
from runspec.strict import Strict


class HubModel(Strict):
    """A model on the Hugging Face hub."""

    kind: Literal["hub"] = "hub"
    id: str
    """Repository, for example `HuggingFaceTB/SmolLM2-135M-Instruct`."""
    revision: str = "main"
    """Branch, tag or commit. The commit it resolves to is recorded with the run."""


class FolderModel(Strict):
    """A folder as `save_pretrained` writes it: config.json, tokenizer files, *.safetensors."""

    kind: Literal["folder"] = "folder"
    path: FilePath
    """Folder, relative to the run file's folder, or `package:NAME/inside` for a folder in an installed package."""


class GgufModel(Strict):
    """A GGUF file, dequantised when it is first used and kept as a folder in the model cache."""

    kind: Literal["gguf"] = "gguf"
    path: FilePath
    """File, relative to the run file's folder, or `package:NAME/inside` for a file in an installed package."""


class Nf4(Strict):
    """QLoRA's 4-bit NormalFloat (https://arxiv.org/abs/2305.14314): frozen weights in blocks of 64."""

    kind: Literal["nf4"] = "nf4"
    double: bool = True
    """Quantise the block scales too, in blocks of 256: 0.37 bit a weight less."""
    storage: Literal["auto", "uint8", "bfloat16", "float32"] = "auto"
    """The type that packed weights are kept in. ZeRO-3 shares out only weights of one floating type, hence `auto`:
    bfloat16 under strategy zero3, uint8 elsewhere."""


class Unquantised(Strict):
    """The base model's weights stay in `dtype`: plain LoRA."""

    kind: Literal["none"] = "none"


ModelSource = Annotated[HubModel | FolderModel | GgufModel, Field(discriminator="kind")]
Quantization = Annotated[Nf4 | Unquantised, Field(discriminator="kind")]


class ModelSpec(Strict):
    """The base model and how it is loaded."""

    source: ModelSource
    """Where the base model comes from."""
    quantization: Quantization = Nf4()
    """How its frozen weights are held while training."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Compute type. `auto` is bfloat16 where the hardware multiplies in it, float32 elsewhere."""
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    """Attention implementation. `auto` takes flash_attention_2 where it is installed and runs, else sdpa."""
    chat_template: FilePath | None = None
    """A Jinja file that replaces the model's own chat template."""
    trust_remote_code: bool = False
    """Run Python code that a hub model brings along. Leave it off unless you have read that code."""
