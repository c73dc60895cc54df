"""A small client of the Kubernetes API: the official client's credentials, connections and TLS; JSON in and out.

Every request has a time limit, and whatever goes wrong becomes a HardwareError with a fix (`cluster.kube_faults`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cluster.kube_faults import Asked, broken_config, no_config, no_context, refusal, unreachable

RAY_API = "/apis/ray.io/v1"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
MANAGER = "guitarfish"
"""The name that fields are owned by (server-side apply)."""
SECONDS = 30.0
QUIET_SECONDS = 60.0
"""A log stream that says nothing for so long is taken up again: a router on the way may have dropped it unseen."""


class KubeClient:
    """One namespace of one cluster.

    Args:
        namespace: of everything that is asked for.
        context: of the kubeconfig; None takes the current one, or inside a pod its service account.
        seconds: how long an answer may take.
        quiet_seconds: how long a log stream may be silent.

    Raises:
        HardwareError: there is no kubeconfig, it is broken, or it has no such context.
    """

    def __init__(
        self,
        namespace: str,
        context: str | None = None,
        *,
        seconds: float = SECONDS,
        quiet_seconds: float = QUIET_SECONDS,
    ) -> None:
        self.namespace = namespace
        self.context = context
        self._seconds = seconds
        self._quiet_seconds = quiet_seconds
        self._api = _connect(context)

    @property
    def server(self) -> str:
        """The API server's address, for messages."""
        return str(self._api.configuration.host)

    def create(self, plural: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create a Ray object. Raises HardwareError; `Taken` where there is one of this name."""
        asked = Asked("create", plural, str(manifest["metadata"]["name"]), self.namespace, self.server)
        return self._json("POST", self._ray(plural), asked, body=manifest)[1]

    def apply(self, plural: str, manifest: Mapping[str, Any]) -> bool:
        """Create a Ray object or change it to this (server-side apply); whether it is new. Raises HardwareError.

        Client-side apply would keep the whole manifest in an annotation too, which is too long for KubeRay's.
        """
        name = str(manifest["metadata"]["name"])
        asked = Asked("patch", plural, name, self.namespace, self.server)
        query = {"fieldManager": MANAGER, "force": "true"}
        status, _ = self._json("PATCH", self._ray(plural, name), asked, query=query, body=manifest, kind=APPLY)
        return status == 201

    def get(self, plural: str, name: str) -> dict[str, Any]:
        """A Ray object. Raises HardwareError; `Missing` where there is none of this name."""
        return self._json("GET", self._ray(plural, name), Asked("get", plural, name, self.namespace, self.server))[1]

    def patch(self, plural: str, name: str, change: Mapping[str, Any]) -> None:
        """Change some fields of a Ray object. Raises HardwareError."""
        asked = Asked("patch", plural, name, self.namespace, self.server)
        self._json("PATCH", self._ray(plural, name), asked, body=change, kind=MERGE)

    def delete(self, plural: str, name: str) -> None:
        """Delete a Ray object and what belongs to it. Raises HardwareError."""
        asked = Asked("delete", plural, name, self.namespace, self.server)
        self._json("DELETE", self._ray(plural, name), asked, query={"propagationPolicy": "Background"})

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """The pods whose labels match. Raises HardwareError."""
        asked = Asked("list", "pods", "", self.namespace, self.server)
        _, found = self._json("GET", self._core("pods"), asked, query={"labelSelector": selector})
        return list(found.get("items") or [])

    def log(self, pod: str, container: str, *, follow: bool, since: str | None) -> Iterator[bytes]:
        """A container's log in pieces, each line with its time in front; with `follow` until the container ends.

        Args:
            since: RFC 3339; the API server looks at whole seconds.

        Raises:
            HardwareError: it is refused. `Dropped`: the stream broke.
        """
        query = {"container": container, "timestamps": "true", "follow": str(follow).lower()}
        if since is not None:
            query["sinceTime"] = since
        asked = Asked("get", "pods/log", pod, self.namespace, self.server)
        waits = (self._seconds, self._quiet_seconds if follow else self._seconds)
        response = self._send("GET", self._core("pods", pod, "log"), asked, query=query, waits=waits)
        return _pieces(response, asked)

    def _ray(self, *parts: str) -> str:
        return self._path(RAY_API, *parts)

    def _core(self, *parts: str) -> str:
        return self._path("/api/v1", *parts)

    def _path(self, api: str, *parts: str) -> str:
        return "/".join((api, "namespaces", *(quote(part, safe="") for part in (self.namespace, *parts))))

    def _json(self, method: str, path: str, asked: Asked, **more: Any) -> tuple[int, dict[str, Any]]:
        import urllib3

        response = self._send(method, path, asked, **more)
        try:
            content = json.loads(response.read() or b"{}")
        except urllib3.exceptions.HTTPError as error:
            raise unreachable(error, asked) from None
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise refusal(502, "the answer is no JSON: this address may belong to something else", {}, asked)
        return int(response.status), content

    def _send(
        self,
        method: str,
        path: str,
        asked: Asked,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        kind: str = "application/json",
        waits: tuple[float, float] | None = None,
    ) -> Any:
        """The answer, its content not read yet. The messages of what is raised come without the original error, whose
        text may have headers, and with them the token, in it."""
        import urllib3
        from kubernetes.client.exceptions import ApiException

        headers = {"Accept": "application/json, */*", "Content-Type": kind}
        request = self._api.param_serialize(
            method, path, query_params=list((query or {}).items()), header_params=headers, body=body,
            auth_settings=["BearerToken"],
        )  # fmt: skip
        try:
            response = self._api.call_api(*request, _request_timeout=waits or (self._seconds, self._seconds))
            if response.status >= 400:
                raise _refused(response, asked)
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
            raise unreachable(error, asked) from None
        return response.response


def _pieces(response: Any, asked: Asked) -> Iterator[bytes]:
    import urllib3

    try:
        yield from response.stream(2**16)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise unreachable(error, asked, streaming=True) from None
    finally:
        response.close()


def _refused(response: Any, asked: Asked) -> Exception:
    """What an answer that is an error means. The API server answers with a `Status` object; others answer otherwise."""
    text = bytes(response.read()).decode(errors="replace")
    try:
        status = json.loads(text)
    except ValueError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        return refusal(int(response.status), str(status.get("message") or ""), status, asked)
    return refusal(int(response.status), "", {}, asked)


def _connect(context: str | None) -> Any:
    """An ApiClient with the credentials of a kubeconfig, or inside a pod those of its service account."""
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException

    settings = client.Configuration()
    settings.retries = False  # ours: the user hears of a failure at once
    places = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    if not any(Path(place).expanduser().is_file() for place in places.split(os.pathsep)):
        if context is not None or "KUBERNETES_SERVICE_HOST" not in os.environ:
            raise no_config(places)
        try:
            config.load_incluster_config(client_configuration=settings)
        except ConfigException:
            raise no_config("the pod's service account") from None
        return client.ApiClient(settings)
    _load_kubeconfig(places, context, settings)
    return client.ApiClient(settings)


def _load_kubeconfig(places: str, context: str | None, settings: Any) -> None:
    """Read a kubeconfig. Its text, and that of errors about it, may hold credentials: neither is shown."""
    import yaml
    from kubernetes import config
    from kubernetes.config.config_exception import ConfigException

    try:
        contexts, current = config.list_kube_config_contexts(config_file=places)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise broken_config(places, f"line {mark.line + 1} is no YAML" if mark else "it is no YAML") from None
    except (ConfigException, TypeError, AttributeError, KeyError, ValueError):
        contexts, current = [], None
    except OSError as error:
        raise broken_config(places, str(error.strerror)) from None
    names = [str(entry["name"]) for entry in contexts or []]
    if context is not None and names and context not in names:
        raise no_context(places, context, names)
    if context is None and current is None and not names:
        raise broken_config(places, "it names no current context, or lacks contexts, clusters or users")
    try:
        config.load_kube_config(places, context, settings, persist_config=False)
    except (ConfigException, TypeError, AttributeError, KeyError, ValueError, OSError):
        wanted = context or (current or {}).get("name") or "the current context"
        raise broken_config(places, f"the cluster or the user of {wanted} is missing or not readable") from None
