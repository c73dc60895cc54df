"""The outermost layer of the front door: it checks the key, and times and counts every request.

Plain ASGI around the whole application, so that a route that a new version of Ray adds is behind it too.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

from runspec.errors import StoreError
from serving.door import answers
from serving.door.keyring import KeyRing, Refusal
from serving.door.keys import KeyRecord

log = logging.getLogger(__name__)
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Status = Literal["2xx", "4xx", "5xx", "cancelled"]

METERED = ("/v1/chat/completions", "/v1/completions")
MODELS = "/v1/models"
"""Ray's application has more routes than METERED and MODELS; they are not served (docs/serving.md)."""


@dataclass
class Visit:
    """One request, from its arrival, and what becomes known about it on the way.

    Attributes:
        key: the key it came with; None if the server requires none.
        model: the base's name or NAME@VERSION, once that is resolved.
        digest: of that model's weights.
        usage: the engine's last `usage`, as JSON.
        first_token_at: when the engine's first token came.
        load_seconds: how long a replica loaded and checked the adapter for this request; 0 if it had it.
        http_status: the status that was sent.
        complete: the whole answer was sent before the client disconnected.
        left: the client disconnected.
        broken: the server failed before that, though it may have sent a status.
    """

    began_at: float = field(default_factory=time.monotonic)
    key: KeyRecord | None = None
    model: str | None = None
    digest: str | None = None
    usage: str | None = None
    first_token_at: float | None = None
    load_seconds: float = 0.0
    http_status: int | None = None
    complete: bool = False
    left: bool = False
    broken: bool = False
    ended_at: float = 0.0

    @property
    def status(self) -> Status:
        """Class of the outcome; `cancelled` if the client disconnected before the end."""
        if self.broken:
            return "5xx"
        if not self.complete or self.http_status is None:
            return "cancelled"
        return "2xx" if self.http_status < 400 else "4xx" if self.http_status < 500 else "5xx"

    @property
    def tokens(self) -> tuple[int, int]:
        """Prompt and completion tokens, as counted by the engine; 0 if it counted none."""
        found = json.loads(self.usage) if self.usage else {}
        return found.get("prompt_tokens") or 0, found.get("completion_tokens") or 0

    def fail(self) -> None:
        """Note a failure, unless the client had disconnected: then the failure may follow from that."""
        self.broken = self.broken or not self.left

    def may_use(self, adapter: str | None) -> bool:
        """Whether the request may ask for an adapter; None stands for the base model."""
        return self.key is None or self.key.may_use(adapter)


_visit: ContextVar[Visit | None] = ContextVar("guitarfish_visit", default=None)


def current_visit() -> Visit:
    """The request that is being answered; a new one outside of a request."""
    return _visit.get() or Visit()


class Gate:
    """ASGI middleware. Keys are required if there is a key ring."""

    def __init__(self, app: App, *, ring: KeyRing | None, record: Callable[[Visit], None]) -> None:
        self._app = app
        self._ring = ring
        self._record = record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = Visit()
        token = _visit.set(visit)

        async def note_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                visit.http_status = message["status"]
            await send(message)
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            visit.complete = last and not visit.left  # Starlette also ends the answer to a client that has left

        async def receive_and_note() -> Message:
            try:
                message = await receive()
            except Exception as error:  # noqa: BLE001  # TaskCancelledError, if Ray's proxy cancels the request
                log.debug("a client disconnected: %s", error)
                message = {"type": "http.disconnect"}
            visit.left = visit.left or message["type"] == "http.disconnect"
            return message

        try:
            error = await self._refuse(visit, scope)
            if error is not None:
                await _send_error(error, note_and_send)
            else:
                # The application does not get the key, so it cannot log it.
                headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"authorization"]
                await self._app({**scope, "headers": headers}, receive_and_note, note_and_send)
        except Exception:
            visit.fail()
            raise
        finally:
            _visit.reset(token)
            visit.ended_at = time.monotonic()
            if scope["path"] in METERED and scope["method"] == "POST":
                self._record(visit)

    async def _refuse(self, visit: Visit, scope: Scope) -> answers.ApiError | None:
        if scope["method"] == "OPTIONS":  # a browser's preflight request carries no key
            return None
        if self._ring is not None:
            sent = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
            try:
                found = await self._ring.admit(sent[0].decode("latin-1") if len(sent) == 1 else None)
            except StoreError as error:
                return answers.of(error, [])
            if isinstance(found, Refusal):
                return answers.unauthorized(found.reason)
            visit.key = found
        path = scope["path"]
        if path in METERED or path == MODELS or path.startswith(f"{MODELS}/"):
            return None
        return answers.no_such_route(path)


async def _send_error(error: answers.ApiError, send: Send) -> None:
    body = json.dumps(error.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))} | error.headers
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
