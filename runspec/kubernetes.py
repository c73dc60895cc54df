"""Where a run's pods run on Kubernetes, and what they get there."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from runspec.strict import Strict

OBJECT_NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
"""What Kubernetes lets an object be called (RFC 1123 subdomain)."""
LabelKey = Annotated[
    str, Field(pattern=r"^([a-z0-9][a-z0-9.-]{0,252}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")
]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$")]


class KubernetesSpec(Strict):
    """What `guitarfish submit --to k8s` and `guitarfish deploy` put into their manifests. Credentials are never part of
    them: pods take them from the Secret named here."""

    namespace: str = Field(default="default", pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    """Namespace of the RayJob or RayService."""
    image: str = Field(default="guitarfish:latest", min_length=1)
    """Container image of every pod: built from k8s/Dockerfile, pushed to where the cluster pulls from."""
    service_account: str | None = Field(default="guitarfish", pattern=OBJECT_NAME)
    """ServiceAccount of the pods. Null: the namespace's default one."""
    secret: str | None = Field(default=None, pattern=OBJECT_NAME)
    """Secret whose entries become environment variables of every pod: AWS_ACCESS_KEY_ID, HF_TOKEN, ... Null: none, for
    pods whose service account grants access."""
    cache_claim: str | None = Field(default=None, pattern=OBJECT_NAME)
    """PersistentVolumeClaim for downloaded models, mounted in every pod. Null: each pod downloads into its own disk."""
    queue: str | None = Field(default=None, pattern=OBJECT_NAME)
    """Kueue's LocalQueue for the job. Null: it starts at once."""
    node_selector: dict[LabelKey, LabelValue] = {}
    """Labels that a worker's node must have, such as the GPU's kind: names differ from cloud to cloud."""
    spot: bool = False
    """Workers may run on spot nodes; after losing one, a run continues from its last checkpoint."""
    time_limit_hours: float | None = Field(default=None, gt=0)
    """The job is ended after this time. Null: three times the planned time; without a plan, no limit."""
