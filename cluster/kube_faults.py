"""What the Kubernetes API refuses, in words a user can act on: which verb on which object, and how to mend it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from runspec.errors import HardwareError

MESSAGE_LENGTH = 400


class Taken(HardwareError):
    """There is an object of this name already."""


class Missing(HardwareError):
    """There is no object of this name."""


class Dropped(HardwareError):
    """The connection broke, or no answer came: asking again may help."""


@dataclass(frozen=True)
class Asked:
    """What was asked of the API server.

    Attributes:
        verb: of RBAC: create, get, list, patch, delete.
        resource: `rayjobs`, `rayservices`, `pods`, `pods/log`.
        name: of the object; empty for a list.
        server: address of the API server.
    """

    verb: str
    resource: str
    name: str
    namespace: str
    server: str

    @property
    def place(self) -> str:
        """The object, for messages."""
        named = f"{self.resource} {self.name}" if self.name else self.resource
        return f"{named} in namespace {self.namespace} at {self.server}"

    @property
    def full_resource(self) -> str:
        """The resource with its API group, as `kubectl auth can-i` takes it."""
        return f"{self.resource}.ray.io" if self.resource.startswith("ray") else self.resource


def no_config(places: str) -> HardwareError:
    """There are no credentials for any cluster."""
    return HardwareError(
        "There is no kubeconfig, so it is not known which cluster is meant.",
        where=places,
        fix="Get one from your cluster (`kubectl config view` shows it), or name it in KUBECONFIG.",
    )


def broken_config(places: str, why: str) -> HardwareError:
    """The kubeconfig cannot be used. Of its text nothing is quoted: it holds credentials."""
    return HardwareError(
        f"The kubeconfig cannot be used: {why}.",
        where=places,
        fix="Try `kubectl config view`; get a new one if it fails.",
    )


def no_context(places: str, context: str, names: Sequence[str]) -> HardwareError:
    """The kubeconfig lacks the context that was named."""
    near = get_close_matches(context, names, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    return HardwareError(
        f"The kubeconfig has no context {context!r}.", where=places, fix=f"{hint}It has {', '.join(names) or 'none'}."
    )


def unreachable(error: BaseException, asked: Asked, *, streaming: bool = False) -> HardwareError:
    """No answer, or a broken one: by the kind of the error, whose text is not shown."""
    kinds = {type(each).__name__ for each in _chain(error)}
    text = " ".join(str(each) for each in _chain(error)).lower()
    if "SSLError" in kinds or "SSLCertVerificationError" in kinds or "certificate verify failed" in text:
        return HardwareError(
            "The API server's certificate cannot be trusted.",
            where=asked.server,
            fix="The kubeconfig's certificate-authority-data is not this cluster's: get the kubeconfig again.",
        )
    if any("Timeout" in kind for kind in kinds - {"ConnectTimeoutError"}) and "ConnectTimeoutError" not in kinds:
        return Dropped(
            f"The API server did not answer in time when asked to {asked.verb} {asked.resource}.",
            where=asked.place,
            fix="Ask again; `kubectl get --raw /readyz` tells how it is.",
        )
    if streaming or "ProtocolError" in kinds or "IncompleteRead" in kinds:
        return Dropped(
            f"The connection broke when asked to {asked.verb} {asked.resource}.", where=asked.place, fix="Ask again."
        )
    return Dropped(
        "The API server cannot be reached.",
        where=asked.server,
        fix="Is the cluster up, and the VPN? Another cluster is chosen with --context.",
    )


def refusal(status: int, message: str, body: Mapping[str, Any], asked: Asked) -> HardwareError:
    """What an answer with an error status means.

    Args:
        message: the API server's; empty where the answer was not its own.
        body: the API server's `Status` object; empty where there is none.
    """
    said = f": {message[:MESSAGE_LENGTH]}" if message else "."
    if status == 401:
        return HardwareError(
            "The cluster does not accept these credentials: they are wrong, or have expired.",
            where=asked.server,
            fix="Log in to your cloud or cluster again, so that the kubeconfig gets new ones.",
        )
    if status == 403:
        return _forbidden(said, asked)
    if status == 404:
        return _not_found(body, asked)
    if status == 409:
        return _conflict(said, body, asked)
    if status in (400, 422):
        return HardwareError(
            f"The cluster refuses the object{said}",
            where=asked.place,
            fix="Mend the key of `kubernetes` in the run file that it comes from; --dry-run prints the object.",
        )
    if status == 415:
        return HardwareError(
            "The cluster is too old for server-side apply.", where=asked.server, fix="Use Kubernetes 1.22 or newer."
        )
    return Dropped(
        f"The API server answers {status}{said}",
        where=asked.place,
        fix="Ask again in a minute; `kubectl get --raw /readyz` tells how it is.",
    )


def _forbidden(said: str, asked: Asked) -> HardwareError:
    if "exceeded quota" in said:
        return HardwareError(
            f"The namespace's quota is used up{said}",
            where=asked.place,
            fix="End other jobs, ask for more, or set kubernetes.queue, in which jobs wait for room.",
        )
    subresource = asked.resource.partition("/")
    checked = f"{subresource[0]} --subresource={subresource[2]}" if subresource[2] else asked.full_resource
    return HardwareError(
        f"You may not {asked.verb} {asked.full_resource} in namespace {asked.namespace}{said}",
        where=asked.place,
        fix="The role guitarfish-submitter of k8s/base/rbac.yaml gives this right: have it bound to you. "
        f"`kubectl auth can-i {asked.verb} {checked} -n {asked.namespace}` tells.",
    )


def _not_found(body: Mapping[str, Any], asked: Asked) -> HardwareError:
    details = body.get("details") or {}
    if details.get("kind") == "namespaces":
        return HardwareError(
            f"The cluster has no namespace {asked.namespace!r}.",
            where=f"kubernetes.namespace: {asked.namespace}",
            fix=f"`kubectl create namespace {asked.namespace}`, or set kubernetes.namespace to another.",
        )
    if not body and asked.resource.startswith("ray"):
        return HardwareError(
            f"The cluster does not know {asked.full_resource}: KubeRay is not installed there.",
            where=asked.server,
            fix="Have it installed, k8s/README.md says how; `kubectl get crd rayjobs.ray.io` tells.",
        )
    return Missing(
        f"There is no {asked.resource.removesuffix('s')} {asked.name!r} in namespace {asked.namespace}.",
        where=asked.server,
        fix=f"`kubectl get {asked.resource.partition('/')[0]} -n {asked.namespace}` lists what there is.",
    )


def _conflict(said: str, body: Mapping[str, Any], asked: Asked) -> HardwareError:
    if body.get("reason") == "AlreadyExists":
        return Taken(
            f"There is a {asked.resource.removesuffix('s')} {asked.name!r} in namespace {asked.namespace} already.",
            where=asked.server,
            fix=f"`kubectl describe {asked.resource} {asked.name} -n {asked.namespace}` shows it.",
        )
    return Dropped(f"Somebody else changes it right now{said}", where=asked.place, fix="Ask again.")


def _chain(error: BaseException) -> list[BaseException]:
    """An error, and those it came from, for urllib3 wraps one in another."""
    found: list[BaseException] = []
    each: Any = error
    while isinstance(each, BaseException) and each not in found:
        found.append(each)
        reason = getattr(each, "reason", None)
        each = reason if isinstance(reason, BaseException) else (each.__cause__ or each.__context__)
    return found
