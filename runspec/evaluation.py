"""What is measured before and after, and what must hold for the adapter to be published."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from runspec.data import DataSource
from runspec.paths import FilePath
from runspec.strict import Strict, check_pattern


class ExactMatch(Strict):
    """The answer equals the reference, apart from leading and trailing white space. Metric: `exact_match`."""

    kind: Literal["exact_match"] = "exact_match"


class JsonMatch(Strict):
    """The answer is JSON. Metrics: `json_valid` (it parses, and agrees with the schema where one is given),
    `json_equal` (equal to the reference as JSON), and `json_field_NAME` for each name in `fields`."""

    kind: Literal["json"] = "json"
    schema_path: FilePath | None = None
    """A JSON Schema file that a valid answer must satisfy."""
    fields: tuple[str, ...] = ()
    """Top-level fields to compare one by one with the reference."""


class LabelAccuracy(Strict):
    """The answer is one of a set of labels. Metrics: `label_accuracy`, and `label_valid` (it is one of the set)."""

    kind: Literal["label"] = "label"
    labels: tuple[str, ...] = Field(min_length=2)
    """All labels."""
    ignore_case: bool = True
    """Compare without regard to case."""


class RegexMatch(Strict):
    """A regular expression is found in the answer. Metric: `regex`."""

    kind: Literal["regex"] = "regex"
    pattern: Annotated[str, AfterValidator(check_pattern)]
    """Python regular expression."""


class Contains(Strict):
    """The answer contains the reference. Metric: `contains`."""

    kind: Literal["contains"] = "contains"
    ignore_case: bool = False
    """Compare without regard to case."""


class HoldoutLoss(Strict):
    """Mean cross-entropy on the held-out answers, in nats per token. Metric: `loss` (lower is better)."""

    kind: Literal["loss"] = "loss"


class CustomScorer(Strict):
    """A function of your own: `def score(prompt: list[dict], answer: str, reference: str) -> float`, higher is
    better. Metric: the function's name."""

    kind: Literal["custom"] = "custom"
    function: str = Field(pattern=r"^[\w.]+:\w+$")
    """`module:function`; the module is looked for in `folder` first."""
    folder: FilePath = "."
    """Folder of the module, relative to the run file's folder."""


Scorer = Annotated[
    ExactMatch | JsonMatch | LabelAccuracy | RegexMatch | Contains | HoldoutLoss | CustomScorer,
    Field(discriminator="kind"),
]


class GeneralSpec(Strict):
    """How far the tuned model moved on prompts unrelated to the task: the mean KL divergence from
    the base model on the base model's own continuations, and the rise of the loss on them."""

    prompts: int = Field(default=32, ge=2)
    """How many prompts."""
    tokens: int = Field(default=48, ge=1)
    """Length of the base model's continuation of each, in tokens."""
    source: DataSource | None = None
    """Prompts of your own (plain text, or the first user message of each row). Null: the built-in ones."""


class EvaluationSpec(Strict):
    """What is measured on the hold-out, by the same code before and after."""

    scorers: tuple[Scorer, ...] = (ExactMatch(), HoldoutLoss())
    """What is measured."""
    rows: int = Field(default=200, ge=2)
    """Held-out rows to answer, at most."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Longest answer, in tokens."""
    batch_size: int = Field(default=16, ge=1)
    """Prompts answered together by one worker."""
    quantised: bool = False
    """Measure on the base model as it is quantised for training (`model.quantization`), where the plain weights do not
    fit. False measures what will be served."""
    few_shot: int = Field(default=4, ge=0)
    """Examples in the prompt of the few-shot baseline of the untuned model. 0: no baseline."""
    general: GeneralSpec | None = GeneralSpec()
    """Drift on general prompts. Null: not measured."""


class GateSpec(Strict):
    """What must hold before the adapter is published."""

    metric: str = "exact_match"
    """The metric that the gate checks: one that `evaluation.scorers` gives."""
    min_gain: float = 0.0
    """Least gain over what the run starts from (the untuned model, or `lora.start_from`), paired by example. It also
    has to be beyond chance: the lower end of its 95 % interval above 0."""
    max_drift: float | None = Field(default=None, gt=0)
    """Most the model may move on general prompts: mean KL to the base, in nats per token. Null: no limit."""
    target: float | None = None
    """The score that would be good enough. If the few-shot baseline of the untuned model already reaches it, the
    verdict is that tuning is not needed, and the gate is not passed."""
