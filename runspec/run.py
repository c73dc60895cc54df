"""The run file as a whole: one model for one run, and the checks that concern several parts of it."""

import re

from pydantic import Field, model_validator

from runspec.budget import BudgetSpec
from runspec.data import DataSpec
from runspec.evaluation import EvaluationSpec, GateSpec, JsonMatch
from runspec.hardware import HardwareSpec
from runspec.kubernetes import KubernetesSpec, LabelKey, LabelValue
from runspec.lora import LoraSpec
from runspec.method import Method, Sft
from runspec.model import ModelSpec
from runspec.publish import NAME_PATTERN, PublishSpec, ServingSpec
from runspec.store_uri import carries_credentials
from runspec.strategy import Auto, DeviceMap, Strategy, Zero3
from runspec.strict import Strict
from runspec.training import TrainingSpec
from runspec.tuning import TuningSpec, disagreement


class RunSpec(Strict):
    """One run, from data to a published adapter."""

    name: str = Field(pattern=NAME_PATTERN)
    """What the run is called: small letters, digits and hyphens."""
    store: str = "./store"
    """Where runs and adapters are kept: a folder, relative to where the command is run, or `s3://bucket/prefix`."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything that is drawn by chance."""
    labels: dict[LabelKey, LabelValue] = {}
    """Names and values to find and bill the run by, such as `team: search`: `guitarfish cost --by team`."""
    model: ModelSpec
    """The base model."""
    data: DataSpec
    """What is trained on and what is held out."""
    lora: LoraSpec = LoraSpec()
    """Shape of the adapter."""
    method: Method = Sft()
    """What is optimised."""
    training: TrainingSpec = TrainingSpec()
    """How long and how fast."""
    hardware: HardwareSpec = HardwareSpec()
    """On which machines."""
    strategy: Strategy = Auto()
    """How model and training are spread over the GPUs."""
    budget: BudgetSpec | None = None
    """What the run may cost. Null: it is not limited."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """What is measured before and after."""
    gate: GateSpec = GateSpec()
    """What has to hold before the adapter is published."""
    publish: PublishSpec | None = PublishSpec()
    """Where the adapter is published. Null: the adapter stays with the run."""
    serving: ServingSpec = ServingSpec()
    """How it is served."""
    kubernetes: KubernetesSpec = KubernetesSpec()
    """Where it runs on Kubernetes; other commands do not look at it."""
    tuning: TuningSpec | None = None
    """What `guitarfish tune` searches through. Null: nothing; the other verbs do not look at it."""

    @property
    def adapter_name(self) -> str:
        """The adapter's name in the registry."""
        return (self.publish and self.publish.adapter) or self.name

    @model_validator(mode="after")
    def _store_holds_no_secret(self) -> "RunSpec":
        if carries_credentials(self.store):
            raise ValueError(
                "store has a user, a password or a query in it, and would be written into every record: write "
                "s3://bucket/prefix, and give the credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        return self

    @model_validator(mode="after")
    def _gate_names_a_metric(self) -> "RunSpec":
        known = metric_names(self.evaluation)
        if self.gate.metric not in known:
            raise ValueError(f"gate.metric is {self.gate.metric!r}, but evaluation.scorers gives {', '.join(known)}")
        return self

    @model_validator(mode="after")
    def _metrics_differ(self) -> "RunSpec":
        names = metric_names(self.evaluation)
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"evaluation.scorers gives the metric `{name}` twice: keep one of the two scorers")
        return self

    @model_validator(mode="after")
    def _drift_needs_general(self) -> "RunSpec":
        if self.gate.max_drift is not None and self.evaluation.general is None:
            raise ValueError(
                f"gate.max_drift is {self.gate.max_drift}, but evaluation.general is null: nothing measures it"
            )
        return self

    @model_validator(mode="after")
    def _served_adapters_can_be_served(self) -> "RunSpec":
        if self.publish is None:
            return self
        if self.lora.dora:
            raise ValueError("lora.dora is true, but vLLM cannot serve DoRA: set publish: null or lora.dora: false")
        if self.lora.rank > self.serving.max_rank:
            raise ValueError(
                f"lora.rank is {self.lora.rank}, but serving.max_rank is {self.serving.max_rank}: "
                "raise the second or lower the first"
            )
        return self

    @model_validator(mode="after")
    def _replicas_in_order(self) -> "RunSpec":
        if self.serving.max_replicas < self.serving.min_replicas:
            raise ValueError(
                f"serving.max_replicas is {self.serving.max_replicas}, "
                f"but serving.min_replicas is {self.serving.min_replicas}"
            )
        return self

    @model_validator(mode="after")
    def _method_can_train_on_the_layout(self) -> "RunSpec":
        layout, method = self.data.layout, self.method
        if layout != "auto" and layout not in method.layouts:
            raise ValueError(
                f"data.layout is {layout}, but method.kind is {method.kind}, which trains on "
                f"{' or '.join(method.layouts)}: change one of the two"
            )
        return self

    @model_validator(mode="after")
    def _method_can_train_on_the_replay(self) -> "RunSpec":
        replay, method = self.data.curation.replay, self.method
        if replay is not None and replay.layout != "auto" and replay.layout not in method.layouts:
            raise ValueError(
                f"data.curation.replay.layout is {replay.layout}, but method.kind is {method.kind}, which trains on "
                f"{' or '.join(method.layouts)}: replay rows in such a layout"
            )
        return self

    @model_validator(mode="after")
    def _strategy_and_workers(self) -> "RunSpec":
        hardware, strategy = self.hardware, self.strategy
        if isinstance(strategy, DeviceMap) and hardware.workers > 1:
            raise ValueError(
                f"strategy.kind is device_map, in which one worker owns all GPUs, but hardware.workers is "
                f"{hardware.workers}: set hardware.workers to 1 and hardware.gpus_per_worker to {hardware.workers}"
            )
        if not isinstance(strategy, DeviceMap) and hardware.gpus_per_worker > 1:
            raise ValueError(
                f"hardware.gpus_per_worker is {hardware.gpus_per_worker}, but strategy.kind is {strategy.kind}, "
                f"in which each worker has one GPU: set hardware.workers to {hardware.gpus_per_worker}, "
                "or strategy.kind to device_map"
            )
        return self

    @model_validator(mode="after")
    def _sharded_weights_are_floats(self) -> "RunSpec":
        quantization = self.model.quantization
        if isinstance(self.strategy, Zero3) and quantization.kind == "nf4" and quantization.storage == "uint8":
            raise ValueError(
                "strategy.kind is zero3, but model.quantization.storage is uint8, which ZeRO-3 cannot share out: "
                "set model.quantization.storage to bfloat16 or auto"
            )
        return self

    @model_validator(mode="after")
    def _tuning_fits_the_rest(self) -> "RunSpec":
        if (found := disagreement(self)) is not None:
            raise ValueError(found)
        return self

    @model_validator(mode="after")
    def _patterns_compile(self) -> "RunSpec":
        for scorer in self.evaluation.scorers:
            if scorer.kind == "regex":
                try:
                    re.compile(scorer.pattern)
                except re.error as error:
                    raise ValueError(f"evaluation.scorers: {scorer.pattern!r} is not a regex: {error}") from error
        return self


def metric_names(evaluation: EvaluationSpec) -> list[str]:
    """The metrics that the scorers of a run file give, in their order."""
    names: list[str] = []
    for scorer in evaluation.scorers:
        match scorer.kind:
            case "json":
                names += ["json_valid", "json_equal", *(f"json_field_{field}" for field in _fields(scorer))]
            case "label":
                names += ["label_accuracy", "label_valid"]
            case "custom":
                names.append(scorer.function.rpartition(":")[2])
            case other:
                names.append(other)
    return names


def _fields(scorer: JsonMatch) -> tuple[str, ...]:
    return scorer.fields
