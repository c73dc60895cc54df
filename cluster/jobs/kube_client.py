"""The Kubernetes API for one namespace: Ray objects, pods and logs. Failures become HardwareErrors with a fix.

Messages never quote the original error, the kubeconfig or request headers: they may hold the token.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from runspec.errors import HardwareError

RAY_API = ("ray.io", "v1")
MANAGER = "guitarfish"
"""Owner of the fields that server-side apply sets."""
SECONDS = 30.0
QUIET_SECONDS = 60.0
"""A log stream that is silent for this long is opened again: a router on the way may have dropped it."""
CLOCK_SKEW_SECONDS = 300
"""By how much this machine's clock may run behind the cluster's without log lines being lost."""
MESSAGE_LENGTH = 400


class Taken(HardwareError):
    """An object of this name exists already."""


class Missing(HardwareError):
    """No object has this name."""


class Dropped(HardwareError):
    """The connection broke, or no answer came: asking again may help."""


@dataclass(frozen=True)
class Asked:
    """What was asked of the API server.

    Attributes:
        verb: as in RBAC: create, get, list, patch, delete.
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
        named = f"{self.resource} {self.name}" if self.name else self.resource
        return f"{named} in namespace {self.namespace} at {self.server}"

    @property
    def full_resource(self) -> str:
        """With the API group, as `kubectl auth can-i` takes it."""
        return f"{self.resource}.ray.io" if self.resource.startswith("ray") else self.resource


class KubeClient:
    """One namespace of one cluster. Every method raises HardwareError; `Taken`, `Missing` and `Dropped` say which kind.

    Args:
        context: of the kubeconfig; None takes the current one, or inside a pod its service account.
        seconds: how long an answer may take.
        quiet_seconds: how long a log stream may be silent.

    Raises:
        HardwareError: the kubeconfig is missing or broken, or lacks this context.
    """

    def __init__(
        self,
        namespace: str,
        context: str | None = None,
        *,
        seconds: float = SECONDS,
        quiet_seconds: float = QUIET_SECONDS,
    ) -> None:
        from kubernetes import client

        api = _connect(context)
        self.namespace = namespace
        self.server = str(api.configuration.host)
        self._seconds = seconds
        self._quiet_seconds = quiet_seconds
        self._rays: Any = client.CustomObjectsApi(api)
        self._core: Any = client.CoreV1Api(api)

    def create(self, plural: str, manifest: Mapping[str, Any]) -> None:
        asked = self._asked("create", plural, str(manifest["metadata"]["name"]))
        self._json(asked, self._rays.create_namespaced_custom_object, *RAY_API, self.namespace, plural, dict(manifest))

    def apply(self, plural: str, manifest: Mapping[str, Any]) -> bool:
        """Create an object or change it to this; whether it is new.

        Server-side apply: the client-side kind copies the manifest into an annotation, and KubeRay's are too long.
        """
        name = str(manifest["metadata"]["name"])
        status, _ = self._json(
            self._asked("patch", plural, name),
            self._rays.patch_namespaced_custom_object,
            *(*RAY_API, self.namespace, plural, name, dict(manifest)),
            field_manager=MANAGER,
            force=True,
            _content_type="application/apply-patch+yaml",
        )
        return status == 201

    def get(self, plural: str, name: str) -> dict[str, Any]:
        asked = self._asked("get", plural, name)
        return self._json(asked, self._rays.get_namespaced_custom_object, *RAY_API, self.namespace, plural, name)[1]

    def patch(self, plural: str, name: str, change: Mapping[str, Any]) -> None:
        """Change some fields (a JSON merge patch)."""
        self._json(
            self._asked("patch", plural, name),
            self._rays.patch_namespaced_custom_object,
            *(*RAY_API, self.namespace, plural, name, dict(change)),
            _content_type="application/merge-patch+json",
        )

    def delete(self, plural: str, name: str) -> None:
        """Delete an object and what belongs to it."""
        self._json(
            self._asked("delete", plural, name),
            self._rays.delete_namespaced_custom_object,
            *(*RAY_API, self.namespace, plural, name),
            propagation_policy="Background",
        )

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """The pods whose labels match, as JSON: the client's own models reject pods that lack a required field."""
        asked = self._asked("list", "pods", "")
        _, found = self._json(asked, self._core.list_namespaced_pod, self.namespace, label_selector=selector)
        return list(found.get("items") or [])

    def log(self, pod: str, container: str, *, follow: bool, since: int | None) -> Iterator[bytes]:
        """A container's log in pieces, each line with its time in front; with `follow` until the container ends.

        Args:
            since: from this Unix time on. Up to CLOCK_SKEW_SECONDS of lines before it come too, or more where the
                clocks differ: the API takes an age in seconds.
        """
        asked = self._asked("get", "pods/log", pod)
        age = None if since is None else max(1, math.ceil(time.time() - since) + CLOCK_SKEW_SECONDS)
        response = self._send(
            asked,
            self._core.read_namespaced_pod_log,
            *(pod, self.namespace),
            container=container,
            timestamps=True,
            follow=follow,
            since_seconds=age,
            _request_timeout=(self._seconds, self._quiet_seconds if follow else self._seconds),
        )
        return _pieces(response, asked)

    def _asked(self, verb: str, resource: str, name: str) -> Asked:
        return Asked(verb, resource, name, self.namespace, self.server)

    def _json(self, asked: Asked, call: Callable[..., Any], *values: Any, **options: Any) -> tuple[int, dict[str, Any]]:
        """Status and content of an answer."""
        import urllib3

        response = self._send(asked, call, *values, **options)
        try:
            content = json.loads(response.data or b"{}")
        except urllib3.exceptions.HTTPError as error:
            raise unreachable(error, asked) from None
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise Dropped(
                "The API server's answer is not JSON: this address may belong to something else.",
                where=asked.place,
                fix="Check the server address in the kubeconfig with `kubectl cluster-info`.",
            )
        return int(response.status), content

    def _send(self, asked: Asked, call: Callable[..., Any], *values: Any, **options: Any) -> Any:
        """Make one of the official client's calls; the answer's content is not read yet."""
        import urllib3
        from kubernetes.client.exceptions import ApiException

        waits = {"_request_timeout": (self._seconds, self._seconds)}
        try:
            return call(*values, _preload_content=False, **(waits | options))
        except ApiException as error:
            raise (refusal(error.status, error.body, asked) if error.status else unreachable(error, asked)) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise unreachable(error, asked) from None


def _pieces(response: Any, asked: Asked) -> Iterator[bytes]:
    import urllib3

    try:
        yield from response.stream(2**16)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise unreachable(error, asked, streaming=True) from None
    finally:
        response.close()


def _connect(context: str | None) -> Any:
    """An ApiClient with the credentials of a kubeconfig, or inside a pod those of its service account."""
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException

    settings = client.Configuration()
    settings.retries = False  # the user hears of a failure at once
    files = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    if any(Path(file).expanduser().is_file() for file in files.split(os.pathsep)):
        _load_kubeconfig(files, context, settings)
        return client.ApiClient(settings)
    missing = HardwareError(
        "No kubeconfig was found, so the cluster is not known.",
        where=files,
        fix="Get one from your cluster (`kubectl config view` shows it), or name its path in KUBECONFIG.",
    )
    if context is not None or "KUBERNETES_SERVICE_HOST" not in os.environ:
        raise missing
    try:
        config.load_incluster_config(client_configuration=settings)
    except ConfigException:
        raise missing from None
    return client.ApiClient(settings)


def _load_kubeconfig(files: str, context: str | None, settings: Any) -> None:
    import yaml
    from kubernetes import config
    from kubernetes.config.config_exception import ConfigException

    def broken(why: str) -> HardwareError:
        fix = "Check it with `kubectl config view`; get a new one if that fails too."
        return HardwareError(f"The kubeconfig cannot be used: {why}.", where=files, fix=fix)

    try:
        contexts, current = config.list_kube_config_contexts(config_file=files)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise broken(f"line {mark.line + 1} is not valid YAML" if mark else "it is not valid YAML") from None
    except (ConfigException, TypeError, AttributeError, KeyError, ValueError):
        contexts, current = [], None
    except OSError as error:
        raise broken(str(error.strerror)) from None
    names = [str(entry["name"]) for entry in contexts or []]
    if context is not None and names and context not in names:
        near = get_close_matches(context, names, n=1)
        hint = f"Did you mean `{near[0]}`? " if near else ""
        fix = f"{hint}The kubeconfig has {', '.join(names)}."
        raise HardwareError(f"No context named `{context}` in the kubeconfig.", where=files, fix=fix)
    if context is None and current is None and not names:
        raise broken("it has no current context, or contexts, clusters or users are missing")
    try:
        config.load_kube_config(files, context, settings, persist_config=False)
    except (ConfigException, TypeError, AttributeError, KeyError, ValueError, OSError):
        wanted = context or (current or {}).get("name") or "the current context"
        raise broken(f"the cluster or the user of {wanted} is missing or not readable") from None


def unreachable(error: BaseException, asked: Asked, *, streaming: bool = False) -> HardwareError:
    """No answer, or a broken one. Told apart by the types of the error and of those it came from."""
    kinds = {type(each).__name__ for each in _chain(error)}
    text = " ".join(str(each) for each in _chain(error)).lower()
    if "SSLError" in kinds or "SSLCertVerificationError" in kinds or "certificate verify failed" in text:
        return HardwareError(
            "The API server's certificate is not trusted.",
            where=asked.server,
            fix="Get the kubeconfig again: its certificate-authority-data does not belong to this cluster.",
        )
    if any("Timeout" in kind for kind in kinds) and "ConnectTimeoutError" not in kinds:
        return Dropped(
            f"The API server did not answer in time when asked to {asked.verb} {asked.resource}.",
            where=asked.place,
            fix="Try again; `kubectl get --raw /readyz` shows whether the server is ready.",
        )
    if streaming or "ProtocolError" in kinds or "IncompleteRead" in kinds:
        what = f"The connection broke when asked to {asked.verb} {asked.resource}."
        return Dropped(what, where=asked.place, fix="Try again.")
    return Dropped(
        "The API server cannot be reached.",
        where=asked.server,
        fix="Check that the cluster and your VPN are up, or choose another cluster with --context.",
    )


def _chain(error: BaseException) -> list[BaseException]:
    """An error and those it came from: urllib3 wraps one in another."""
    found: list[BaseException] = []
    each: Any = error
    while isinstance(each, BaseException) and each not in found:
        found.append(each)
        reason = getattr(each, "reason", None)
        each = reason if isinstance(reason, BaseException) else (each.__cause__ or each.__context__)
    return found


def refusal(status: int, text: str | None, asked: Asked) -> HardwareError:
    """What an error status means. The API server answers with a `Status` object; proxies and missing APIs do not."""
    try:
        body = json.loads(text or "")
    except ValueError:
        body = None
    if not isinstance(body, dict) or body.get("kind") != "Status":
        body = {}
    message = str(body.get("message") or "")
    said = f": {message[:MESSAGE_LENGTH]}" if message else "."
    if status == 401:
        return HardwareError(
            "The cluster does not accept these credentials: they are wrong or have expired.",
            where=asked.server,
            fix="Log in to your cloud or cluster again to renew the kubeconfig.",
        )
    if status == 403:
        return _forbidden(said, asked)
    if status == 404:
        return _not_found(body, asked)
    if status == 409 and body.get("reason") == "AlreadyExists":
        return Taken(
            f"The {asked.resource.removesuffix('s')} `{asked.name}` already exists in namespace {asked.namespace}.",
            where=asked.server,
            fix=f"`kubectl describe {asked.resource} {asked.name} -n {asked.namespace}` shows it.",
        )
    if status == 409:
        what = f"Another client is changing this object{said}"
        return Dropped(what, where=asked.place, fix="Try again.")
    if status in (400, 422):
        return HardwareError(
            f"The cluster rejects the object{said}",
            where=asked.place,
            fix="Correct the key under `kubernetes` in the run file that it comes from; --dry-run prints the object.",
        )
    if status == 415:
        return HardwareError(
            "The cluster is too old for server-side apply.", where=asked.server, fix="Use Kubernetes 1.22 or newer."
        )
    return Dropped(
        f"The API server answered {status}{said}",
        where=asked.place,
        fix="Try again in a minute; `kubectl get --raw /readyz` shows whether the server is ready.",
    )


def _forbidden(said: str, asked: Asked) -> HardwareError:
    if "exceeded quota" in said:  # a 403 like any other, but for its message
        return HardwareError(
            f"The namespace's quota is used up{said}",
            where=asked.place,
            fix="End other jobs, ask for a larger quota, or set kubernetes.queue, where jobs wait for capacity.",
        )
    resource, _, subresource = asked.resource.partition("/")
    checked = f"{resource} --subresource={subresource}" if subresource else asked.full_resource
    return HardwareError(
        f"You may not {asked.verb} {asked.full_resource} in namespace {asked.namespace}{said}",
        where=asked.place,
        fix="Ask for the role guitarfish-submitter (k8s/base/rbac.yaml), which grants this; "
        f"check with `kubectl auth can-i {asked.verb} {checked} -n {asked.namespace}`.",
    )


def _not_found(body: Mapping[str, Any], asked: Asked) -> HardwareError:
    if (body.get("details") or {}).get("kind") == "namespaces":
        return HardwareError(
            f"Namespace `{asked.namespace}` not found in the cluster.",
            where=f"kubernetes.namespace: {asked.namespace}",
            fix=f"Run `kubectl create namespace {asked.namespace}`, or set kubernetes.namespace to another.",
        )
    if not body and asked.resource.startswith("ray"):
        return HardwareError(
            f"The cluster does not know {asked.full_resource}: KubeRay is not installed.",
            where=asked.server,
            fix="Install KubeRay as k8s/README.md describes; check with `kubectl get crd rayjobs.ray.io`.",
        )
    return Missing(
        f"No {asked.resource.removesuffix('s')} named `{asked.name}` in namespace {asked.namespace}.",
        where=asked.server,
        fix=f"`kubectl get {asked.resource.partition('/')[0]} -n {asked.namespace}` lists what exists.",
    )
