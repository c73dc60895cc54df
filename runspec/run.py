"""The run file as a whole: one model for one run, and the checks that concern several parts of it."""

from pydantic import Field, model_validator

from runspec.budget import BudgetSpec
from runspec.data import DataSpec, Layout
from runspec.evaluation import EvaluationSpec, GateSpec
from runspec.hardware import HardwareSpec
from runspec.kubernetes import KubernetesSpec, LabelKey, LabelValue
from runspec.lora import LoraSpec
from runspec.method import Method, Sft
from runspec.model import ModelSpec
from runspec.publish import NAME_PATTERN, PublishSpec, ServingSpec
from runspec.store_uri import carries_credentials
from runspec.strategy import Auto, Strategy
from runspec.strict import Strict, disagreement
from runspec.training import TrainingSpec
from runspec.tuning import TuningSpec


class RunSpec(Strict):
    """One run, from data to a published adapter."""

    name: str = Field(pattern=NAME_PATTERN)
    """Name of the run: lower-case letters, digits and hyphens."""
    store: str = "./store"
    """Where runs and adapters are kept: a folder, relative to where the command is run, or `s3://bucket/prefix`."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything random."""
    labels: dict[LabelKey, LabelValue] = {}
    """Names and values to find and bill the run by: with `team: search`, `guitarfish cost --by team`."""
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
    """What the run may cost. Null: no limit."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """What is measured before and after."""
    gate: GateSpec = GateSpec()
    """What must hold before the adapter is published."""
    publish: PublishSpec | None = PublishSpec()
    """Where the adapter is published. Null: the adapter stays with the run."""
    serving: ServingSpec = ServingSpec()
    """How the adapter is served."""
    kubernetes: KubernetesSpec = KubernetesSpec()
    """Where it runs on Kubernetes; other commands ignore it."""
    tuning: TuningSpec | None = None
    """What `guitarfish tune` searches. Null: nothing. Other commands ignore it."""

    @property
    def adapter_name(self) -> str:
        """The adapter's name in the registry."""
        return (self.publish and self.publish.adapter) or self.name

    @model_validator(mode="after")
    def _store_holds_no_secret(self) -> "RunSpec":
        if carries_credentials(self.store):
            raise disagreement(
                "`store` contains a user, a password or a query, and would be written into every record.",
                "store",
                fix="Write s3://bucket/prefix, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead.",
            )
        return self

    @model_validator(mode="after")
    def _gate_names_a_metric(self) -> "RunSpec":
        known = metric_names(self.evaluation)
        keys = "gate.metric", "evaluation.scorers"
        for name in known:
            if known.count(name) > 1:
                what = f"`evaluation.scorers` gives the metric `{name}` twice."
                raise disagreement(what, "evaluation.scorers", fix="Remove one of the two scorers.")
        if not known:
            raise disagreement(
                "`evaluation.scorers` is empty.", *keys, fix=f"Add a scorer that gives {self.gate.metric}."
            )
        if self.gate.metric not in known:
            what = f"`gate.metric` is {self.gate.metric!r}, but `evaluation.scorers` gives {', '.join(known)}."
            raise disagreement(what, *keys, fix=f"Set `gate.metric: {known[0]}`, or add a scorer that gives it.")
        return self

    @model_validator(mode="after")
    def _drift_needs_general(self) -> "RunSpec":
        if self.gate.max_drift is not None and self.evaluation.general is None:
            raise disagreement(
                f"`gate.max_drift` is {self.gate.max_drift}, but drift is not measured: `evaluation.general` is null.",
                "gate.max_drift",
                "evaluation.general",
                fix="Set `gate.max_drift: null`, or remove `general: null`.",
            )
        return self

    @model_validator(mode="after")
    def _served_adapters_can_be_served(self) -> "RunSpec":
        if self.publish is None:
            return self
        if self.lora.dora:
            what = "`lora.dora` is true, but the adapter is published for serving, and vLLM cannot serve DoRA."
            raise disagreement(what, "lora.dora", "publish", fix="Set `lora.dora: false` or `publish: null`.")
        if self.lora.rank > self.serving.max_rank:
            what = f"`lora.rank` is {self.lora.rank}, but `serving.max_rank` is {self.serving.max_rank}."
            fix = "Raise `serving.max_rank`, or lower `lora.rank`."
            raise disagreement(what, "lora.rank", "serving.max_rank", fix=fix)
        return self

    @model_validator(mode="after")
    def _replicas_in_order(self) -> "RunSpec":
        least, most = self.serving.min_replicas, self.serving.max_replicas
        if most < least:
            what = f"`serving.min_replicas` is {least}, but `serving.max_replicas` is {most}."
            fix = "Raise `serving.max_replicas`, or lower `serving.min_replicas`."
            raise disagreement(what, "serving.min_replicas", "serving.max_replicas", fix=fix)
        return self

    @model_validator(mode="after")
    def _method_can_train_on_the_layout(self) -> "RunSpec":
        method, usable = self.method, ", ".join(self.method.layouts)
        asked: dict[str, Layout] = {"data.layout": self.data.layout}
        if self.data.curation.replay is not None:
            asked["data.curation.replay.layout"] = self.data.curation.replay.layout
        for key, layout in asked.items():
            if layout != "auto" and layout not in method.layouts:
                what = f"`{key}` is {layout}, but `method.kind` is {method.kind}, which trains on: {usable}."
                fix = "Use rows in a layout of the method, or another method."
                raise disagreement(what, key, "method.kind", fix=fix)
        return self

    @model_validator(mode="after")
    def _strategy_and_workers(self) -> "RunSpec":
        workers, gpus, kind = self.hardware.workers, self.hardware.gpus_per_worker, self.strategy.kind
        if kind == "device_map" and workers > 1:
            raise disagreement(
                "`strategy.kind` is device_map, in which one worker owns all GPUs, "
                f"but `hardware.workers` is {workers}.",
                "strategy.kind",
                "hardware.workers",
                fix=f"Set `hardware.workers: 1` and `hardware.gpus_per_worker: {workers}`.",
            )
        if kind != "device_map" and gpus > 1:
            raise disagreement(
                f"`hardware.gpus_per_worker` is {gpus}, but `strategy.kind` is {kind}, "
                "in which each worker has one GPU.",
                "hardware.gpus_per_worker",
                "strategy.kind",
                fix=f"Set `hardware.workers: {gpus}`, or `strategy.kind: device_map`.",
            )
        return self

    @model_validator(mode="after")
    def _sharded_weights_are_floats(self) -> "RunSpec":
        quantization = self.model.quantization
        if self.strategy.kind == "zero3" and quantization.kind == "nf4" and quantization.storage == "uint8":
            raise disagreement(
                "`strategy.kind` is zero3, which cannot shard `model.quantization.storage` uint8.",
                "strategy.kind",
                "model.quantization.storage",
                fix="Set `model.quantization.storage: bfloat16` or `auto`.",
            )
        return self

    @model_validator(mode="after")
    def _tuning_fits_the_rest(self) -> "RunSpec":
        tuning, training = self.tuning, self.training
        if tuning is None:
            return self
        largest, workers = max(tuning.ranks), self.hardware.workers
        if self.publish is not None and largest > self.serving.max_rank:
            raise disagreement(
                f"`tuning.ranks` has {largest}, but `serving.max_rank` is {self.serving.max_rank}.",
                "tuning.ranks",
                "serving.max_rank",
                fix="Raise `serving.max_rank`, or remove that rank.",
            )
        if self.lora.start_from is not None:
            raise disagreement(
                f"`tuning.ranks` lists ranks to try, but `lora.start_from` is {self.lora.start_from}, "
                "which has a rank already.",
                "tuning.ranks",
                "lora.start_from",
                fix="Remove `lora.start_from` or `tuning`.",
            )
        if training.holdout_loss_rows == 0:
            raise disagreement(
                "Trials are compared by their hold-out loss, but `training.holdout_loss_rows` is 0.",
                "training.holdout_loss_rows",
                fix="Set `training.holdout_loss_rows: 64`.",
            )
        grace, between = tuning.grace_steps, training.checkpoint_every_steps
        if between > grace:
            raise disagreement(
                f"Trials are compared at checkpoints, but `training.checkpoint_every_steps` is {between} "
                f"and `tuning.grace_steps` is {grace}.",
                "tuning.grace_steps",
                "training.checkpoint_every_steps",
                fix=f"Set `training.checkpoint_every_steps` to at most {grace}, or raise `tuning.grace_steps`.",
            )
        if training.max_steps is not None and training.max_steps <= grace:
            raise disagreement(
                f"`tuning.grace_steps` is {grace}, but `training.max_steps` is {training.max_steps}, "
                "so no trial could be stopped early.",
                "tuning.grace_steps",
                "training.max_steps",
                fix="Lower `tuning.grace_steps`, or raise `training.max_steps`.",
            )
        if workers > 1:
            accumulation = training.gradient_accumulation * workers
            raise disagreement(
                f"Each trial has one worker, but `hardware.workers` is {workers}.",
                "hardware.workers",
                fix=f"Set `hardware.workers: 1`, and `training.gradient_accumulation: {accumulation}` "
                "to keep the batch size.",
            )
        return self


def metric_names(evaluation: EvaluationSpec) -> list[str]:
    """The metrics that the scorers of a run file give, in their order."""
    names: list[str] = []
    for scorer in evaluation.scorers:
        match scorer.kind:
            case "json":
                names += ["json_valid", "json_equal", *(f"json_field_{field}" for field in scorer.fields)]
            case "label":
                names += ["label_accuracy", "label_valid"]
            case "custom":
                names.append(scorer.function.rpartition(":")[2])
            case other:
                names.append(other)
    return names
