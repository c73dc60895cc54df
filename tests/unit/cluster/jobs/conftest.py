"""A stub of the Kubernetes API server: real HTTP on 127.0.0.1, a kubeconfig with a token, objects in a dictionary."""

from __future__ import annotations

import json
import math
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
import yaml

TOKEN = "planted-kubeconfig-token-7f3a"
STRAY_SECONDS = 5


@dataclass
class Log:
    """A container's log: lines with times; how many characters of it each connection carries before it breaks."""

    lines: list[str]
    breaks: list[int] = field(default_factory=list)
    clean: bool = False
    """A break looks like an end, as routers make it: no error, in the middle of a line."""


@dataclass
class Stub:
    """What the server holds, and how it misbehaves."""

    port: int
    kubeconfig: Path
    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    pods: list[dict[str, Any]] = field(default_factory=list)
    logs: dict[str, Log] = field(default_factory=dict)
    refusals: list[tuple[str, str, int, Any]] = field(default_factory=list)
    """Method, pattern of the path, status, body: used once each, in front of everything else."""
    silent: bool = False
    ended: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, str, dict[str, list[str]], dict[str, str], Any]] = field(default_factory=list)
    on_log: Any = None
    """Called at every request for a log."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def refuse(self, method: str, pattern: str, status: int, body: Any) -> None:
        self.refusals.append((method, pattern, status, body))

    def bodies(self, method: str) -> list[Any]:
        return [body for each, _, _, _, body in self.requests if each == method]

    def job(self, name: str, *, deployment: str, status: str = "", message: str = "", **spec: Any) -> dict[str, Any]:
        """Put a RayJob there, as KubeRay would have left it."""
        found = self.objects.setdefault(
            ("rayjobs", name), {"metadata": {"name": name, "annotations": {"guitarfish.run": name}}, "spec": {}}
        )
        found["spec"] |= spec
        found["status"] = {"jobDeploymentStatus": deployment, "jobStatus": status, "message": message}
        return found


def status_body(code: int, reason: str, message: str, **details: Any) -> dict[str, Any]:
    """A `Status` object, as the API server answers with."""
    return {
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
        "details": details,
    }  # fmt: skip


def stamp_of(line: str) -> float:
    """When a line of a log was written."""
    return datetime.fromisoformat(f"{line[:19]}+00:00").timestamp()


def handler_of(stub: Stub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _any(self) -> None:
            url = urlparse(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            query = parse_qs(url.query)
            stub.requests.append((self.command, url.path, query, dict(self.headers), body))
            if stub.silent:
                stub.ended.wait(STRAY_SECONDS)
                return
            for refusal in list(stub.refusals):
                method, pattern, code, answer = refusal
                if method == self.command and re.search(pattern, url.path):
                    stub.refusals.remove(refusal)
                    self._answer(code, answer)
                    return
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._answer(401, status_body(401, "Unauthorized", "Unauthorized"))
                return
            self._serve(url.path, query, body)

        do_GET = do_POST = do_PATCH = do_DELETE = _any

        def _answer(self, code: int, body: Any) -> None:
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _serve(self, path: str, query: dict[str, list[str]], body: Any) -> None:
            if match := re.fullmatch(r"/apis/ray.io/v1/namespaces/([^/]+)/([^/]+)(?:/([^/]+))?", path):
                return self._ray(match[2], match[3] or body["metadata"]["name"], body, named=match[3] is not None)
            if re.fullmatch(r"/api/v1/namespaces/[^/]+/pods", path):
                key, _, value = query["labelSelector"][0].partition("=")
                items = [pod for pod in stub.pods if pod["metadata"]["labels"].get(key) == value]
                return self._answer(200, {"kind": "PodList", "items": items})
            if match := re.fullmatch(r"/api/v1/namespaces/[^/]+/pods/([^/]+)/log", path):
                return self._log(stub.logs[match[1]], query)
            return self._answer(404, "404 page not found")

        def _ray(self, plural: str, name: str, body: Any, *, named: bool) -> None:
            key = (plural, name)
            there = key in stub.objects
            if self.command == "POST" and there:
                message = f'{plural}.ray.io "{name}" already exists'
                return self._answer(409, status_body(409, "AlreadyExists", message, kind=plural, name=name))
            applied = "apply-patch" in self.headers.get("Content-Type", "")
            if not there and self.command != "POST" and not applied:
                message = f'{plural}.ray.io "{name}" not found'
                return self._answer(404, status_body(404, "NotFound", message, kind=plural, name=name))
            if self.command == "DELETE":
                return self._answer(200, stub.objects.pop(key))
            if self.command == "PATCH" and not applied:
                stub.objects[key]["spec"] |= body["spec"]
            elif self.command in ("POST", "PATCH"):
                stub.objects[key] = body
            return self._answer(200 if there else 201, stub.objects[key])

        def _log(self, log: Log, query: dict[str, list[str]]) -> None:
            if stub.on_log is not None:
                stub.on_log()
            age = float(query["sinceSeconds"][0]) if "sinceSeconds" in query else math.inf
            seen = [line for line in log.lines if time.time() - stamp_of(line) <= age]
            text = "".join(f"{line}\n" for line in seen).encode()
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if log.breaks:
                part = text[: log.breaks.pop(0)]
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n" if part else b"")
                if log.clean:
                    self.wfile.write(b"0\r\n\r\n")
                else:
                    self.close_connection = True
                    self.wfile.flush()
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.wfile.write(f"{len(text):x}\r\n".encode() + text + b"\r\n0\r\n\r\n" if text else b"0\r\n\r\n")

    return Handler


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """A stub server, and KUBECONFIG naming it."""
    for name in ("KUBERNETES_SERVICE_HOST", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    kubeconfig = tmp_path / "kubeconfig"
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.daemon_threads = True
    made = Stub(server.server_address[1], kubeconfig)
    server.RequestHandlerClass = handler_of(made)
    kubeconfig.write_text(yaml.safe_dump(kubeconfig_of(made.url, TOKEN)))
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    made.ended.set()
    server.shutdown()
    server.server_close()
    thread.join()


def kubeconfig_of(url: str, token: str) -> dict[str, Any]:
    """A kubeconfig with two contexts of one cluster."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "stub",
        "clusters": [{"name": "stub", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {"token": token}}],
        "contexts": [
            {"name": "stub", "context": {"cluster": "stub", "user": "me"}},
            {"name": "other", "context": {"cluster": "nowhere", "user": "me"}},
        ],
    }


def pod(name: str, *, job: str = "", cluster: str = "", phase: str = "Running", **status: Any) -> dict[str, Any]:
    """A pod, as far as we look at one."""
    labels = {"job-name": job} if job else {"ray.io/cluster": cluster}
    stamp = datetime.now(UTC).isoformat()
    metadata = {"name": name, "labels": labels, "creationTimestamp": stamp}
    return {"metadata": metadata, "status": {"phase": phase, **status}}
