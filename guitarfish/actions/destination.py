"""Where a run can be submitted, what that place requires of it, and the hardware that it is planned for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import version

from cluster.billing.cards import parse_cards
from cluster.jobs.jobs import Jobs, Submission
from cluster.jobs.kube_jobs import KubeJobs
from cluster.jobs.ray_jobs import RayJobs
from cluster.machine.hardware import detect
from cluster.store.storage import Store
from guitarfish.show.rendering import note
from runspec.errors import HardwareError, SpecError
from runspec.hardware import HardwareSpec
from runspec.portable import only_here
from runspec.run import RunSpec
from training.planning.machines import WORKER_CORES, machines_of
from training.planning.prediction import Prediction
from training.planning.sites import Site, card_site, cores_site, this_site, wanted_gpus
from training.run.run_folder import TrainingFolder

K8S = "k8s"
"""The `--to` of Kubernetes; anything else is a Ray cluster's address."""


@dataclass(frozen=True)
class Destination:
    """A place that runs jobs.

    Attributes:
        ray: the cluster, connected; None for Kubernetes.
        context: of the kubeconfig; None where it is not named, and for Ray.
    """

    ray: RayJobs | None
    context: str | None

    @property
    def here(self) -> bool:
        return self.ray is not None and self.ray.here

    def took(self, submission: Submission, spec: RunSpec) -> bool:
        place = self.ray.url if self.ray else spec.kubernetes.namespace
        return submission.place == place and submission.target == ("ray" if self.ray else "k8s")

    @property
    def name(self) -> str:
        """As `--to` takes it."""
        return self.ray.url if self.ray else K8S

    def jobs(self, spec: RunSpec, prediction: Prediction | None) -> Jobs:
        """The place's jobs. Raises HardwareError for Kubernetes without a plan, which sizes the pods."""
        return self.ray or kube_jobs(spec, prediction, self.context)


def destination(to: str, context: str | None) -> Destination:
    """Connect to a Ray cluster, or prepare for Kubernetes, which is asked only when a job is submitted.

    Raises:
        HardwareError: it is not an address, or no usable dashboard answers there.
    """
    if to == K8S:
        return Destination(None, context)
    if context is not None:
        raise HardwareError(
            "--context can be used with --to k8s only.", where=f"--context {context}", fix="Remove --context."
        )
    ray = RayJobs(to)
    if ray.ray_version != version("ray"):
        note(f"the cluster runs Ray {ray.ray_version}; this machine, which made the plan, has {version('ray')}")
    return Destination(ray, None)


def place_of(store: Store, run_id: str, submission: Submission) -> Jobs:
    """The jobs of the place where a run was submitted. Raises HardwareError where it does not answer."""
    if submission.target == "ray":
        return RayJobs(submission.place)
    folder = TrainingFolder(store, run_id)
    return kube_jobs(folder.spec.read(), folder.prediction.read_if_there(), submission.context)


def kube_jobs(spec: RunSpec, prediction: Prediction | None, context: str | None) -> KubeJobs:
    """The jobs of the run file's namespace, sized by the plan. Raises HardwareError where there is no plan."""
    if prediction is None:
        raise HardwareError(
            "The run has no plan to size its pods from.",
            where="--to k8s",
            fix="Run `guitarfish plan RUN.yaml` to see why: it has to know the shape of the base model.",
        )
    return KubeJobs(spec.kubernetes, machines_of(prediction.row, spec.hardware), context=context)


def check_reach(spec: RunSpec, place: Destination) -> None:
    """Check that the place's machines can reach what the run needs, before anything is written.

    Raises:
        SpecError: lists everything that is on this machine only.
    """
    found = [] if place.here else only_here(spec)
    if not found:
        return
    there = f"The cluster at {place.name} is" if place.ray else "Pods are"
    lines = [f"{one.key} ({one.value}): {one.fix}" for one in found]
    raise SpecError(
        f"{there} on other machines and cannot reach what is only on this one.",
        where=", ".join(one.key for one in found),
        fix="\n         ".join(lines),
    )


def site_of(spec: RunSpec, hardware: str | None, place: Destination) -> Site | None:
    """The hardware that the run is planned for; None: it is not known, and the run has no plan.

    Args:
        hardware: `--hardware`.

    Raises:
        HardwareError: `--hardware` contradicts the run file or the cluster, or is missing where it is needed.
    """
    asked = spec.hardware
    if hardware is not None:
        return _cards(asked, hardware, place)
    if place.here:
        return this_site(asked, detect())
    if asked.accelerator == "cpu" and (place.ray is None or asked.cpus_per_worker):
        return cores_site(asked, asked.cpus_per_worker or WORKER_CORES)
    if place.ray is None:
        raise HardwareError(
            f"hardware.accelerator is {asked.accelerator}, but the kind of GPU to size the pods for is not known.",
            where="--to k8s",
            fix='Name the GPUs, as in --hardware "2x RTX 4090", or use --set hardware.accelerator=cpu.',
        )
    return None


def _cards(asked: HardwareSpec, text: str, place: Destination) -> Site:
    count, card = parse_cards(text)
    where = f"--hardware {text!r}"
    if asked.accelerator == "cpu":
        raise HardwareError(
            f"hardware.accelerator is cpu, but --hardware names {card.label}.",
            where=where,
            fix="Remove --hardware, or use --set hardware.accelerator=gpu.",
        )
    if count != wanted_gpus(asked):
        key = "gpus_per_worker" if asked.gpus_per_worker > 1 else "workers"
        raise HardwareError(
            f"--hardware names {count} x {card.label}, but hardware.{key} asks for {wanted_gpus(asked)}.",
            where=where,
            fix=f'Use --set hardware.{key}={count}, or --hardware "{wanted_gpus(asked)}x {card.label}".',
        )
    if place.ray is not None and place.ray.gpus < count:
        raise HardwareError(
            f"--hardware names {count} x {card.label}, but the cluster has {place.ray.gpus} GPUs.",
            where=place.name,
            fix="Add nodes to the cluster first: workers do not wait for them.",
        )
    site = card_site(count, card)
    if asked.price_usd_per_hour is None:
        return site
    return replace(site, usd_per_hour=asked.price_usd_per_hour, price_source="run file")
