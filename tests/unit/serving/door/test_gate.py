"""The gate around the front door, with an ASGI application behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from cluster.store.storage import open_store
from runspec.errors import StoreError
from serving.door.gate import Gate, Visit, current_visit
from serving.door.keyring import KeyRing
from serving.door.keys import NewKey, create_key

CHAT = "/v1/chat/completions"


class Front:
    """Answers everything; records which headers arrived and what the gate knows about the request."""

    def __init__(self, status: int = 200, chunks: int = 1, error: BaseException | None = None) -> None:
        self.status, self.chunks, self.error = status, chunks, error
        self.headers: list[tuple[bytes, bytes]] = []
        self.visit: Visit | None = None

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        self.headers, self.visit = scope["headers"], current_visit()
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        for _ in range(self.chunks):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        if self.error is not None:
            raise self.error
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def call(
    gate: Gate, path: str = CHAT, headers: Sequence[tuple[str, str]] = (), method: str = "POST", kind: str = "http"
) -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    encoded = [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": kind, "method": method, "path": path, "headers": encoded}
    asyncio.run(gate(scope, None, send))  # type: ignore[arg-type]
    return sent


@pytest.fixture
def key(tmp_path: Path) -> NewKey:
    return create_key(open_store(str(tmp_path)), "a", adapters=["fruit"], base=False)


@pytest.fixture
def ring(tmp_path: Path, key: NewKey) -> KeyRing:
    return KeyRing(open_store(str(tmp_path)), 1)


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/docs", "/openapi.json", "/", "/new/route/of/ray"])
def test_every_route_needs_a_key(ring: KeyRing, path: str) -> None:
    front = Front()
    start, body = call(Gate(front, ring=ring, record=lambda _: None), path)
    assert start["status"] == 401
    assert (b"www-authenticate", b"Bearer") in start["headers"]
    assert json.loads(body["body"])["error"]["code"] == "invalid_api_key"
    assert front.visit is None


def test_the_application_does_not_get_the_key(ring: KeyRing, key: NewKey) -> None:
    front = Front()
    sent = call(
        Gate(front, ring=ring, record=lambda _: None), headers=[("Authorization", f"Bearer {key.token}"), ("x", "y")]
    )
    assert sent[0]["status"] == 200
    assert front.headers == [(b"x", b"y")]
    assert front.visit is not None
    assert front.visit.may_use("fruit")
    assert not front.visit.may_use("animal")
    assert not front.visit.may_use(None)


def test_two_keys_are_refused(ring: KeyRing, key: NewKey) -> None:
    header = ("authorization", f"Bearer {key.token}")
    assert call(Gate(Front(), ring=ring, record=lambda _: None), headers=[header, header])[0]["status"] == 401


def test_without_keys_everyone_may_use_everything(tmp_path: Path) -> None:
    front = Front()
    assert (
        call(Gate(front, ring=None, record=lambda _: None), headers=[("authorization", "Bearer none")])[0]["status"]
        == 200
    )
    assert front.headers == []
    assert front.visit is not None
    assert front.visit.may_use("fruit")
    assert front.visit.may_use(None)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/tokenize", "/docs", "/v1/modelsx", "/v1/chat/completions/"])
def test_other_routes_are_not_served(path: str) -> None:
    start, body = call(Gate(Front(), ring=None, record=lambda _: None), path)
    assert (start["status"], json.loads(body["body"])["error"]["code"]) == (404, "unknown_url")


def test_websockets_are_closed_and_lifespans_pass(ring: KeyRing) -> None:
    gate = Gate(Front(), ring=ring, record=lambda _: None)
    assert call(gate, kind="websocket") == [{"type": "websocket.close", "code": 1008}]
    assert len(call(gate, kind="lifespan")) == 3


def test_without_the_store_the_answer_is_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(tmp_path))

    def silent(_prefix: str) -> Any:
        raise StoreError("no answer")

    monkeypatch.setattr(store, "walk", silent)
    start, _ = call(
        Gate(Front(), ring=KeyRing(store, 1), record=lambda _: None),
        headers=[("authorization", f"Bearer gf-00000000-{'a' * 43}")],
    )
    assert start["status"] == 503


@pytest.mark.parametrize(
    ("front", "status"),
    [
        (Front(), "2xx"),
        (Front(status=429), "4xx"),
        (Front(status=503), "5xx"),
        (Front(error=RuntimeError("the engine died")), "5xx"),
        (Front(error=asyncio.CancelledError()), "cancelled"),
    ],
)
def test_every_outcome_is_recorded(front: Front, status: str) -> None:
    visits: list[Visit] = []
    gate = Gate(front, ring=None, record=visits.append)
    if front.error is None:
        call(gate)
    else:
        with pytest.raises(type(front.error)):
            call(gate)
    (visit,) = visits
    assert visit.status == status
    assert visit.ended_at >= visit.began_at


@pytest.mark.parametrize("after", [None, RuntimeError("the stream was cancelled under it")])
@pytest.mark.parametrize("word", [{"type": "http.disconnect"}, RuntimeError("Task 86 was cancelled.")])
def test_a_client_that_disconnects_is_not_a_failure_of_the_server(word: Any, after: Exception | None) -> None:
    """Ray's proxy reports it, or cancels the request; the application may then raise an exception."""
    heard: list[Any] = []

    async def front(_scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        heard.append(await receive())
        if after is not None:
            raise after

    async def receive() -> Any:
        if isinstance(word, Exception):
            raise word
        return word

    async def send(_message: Any) -> None: ...

    visits: list[Visit] = []
    gate = Gate(front, ring=None, record=visits.append)
    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": []}
    with nullcontext() if after is None else pytest.raises(RuntimeError, match="under it"):
        asyncio.run(gate(scope, receive, send))
    assert heard == [{"type": "http.disconnect"}]
    assert visits[0].status == "cancelled"


def test_layers_that_end_a_broken_off_answer_properly_do_not_make_it_whole() -> None:
    """Starlette's middleware sends the last part of an answer even where the client's leaving ended it."""
    gone = asyncio.Event()

    async def events() -> AsyncIterator[str]:
        yield "one"
        gone.set()
        await asyncio.Event().wait()

    async def answer(_request: Request) -> Response:
        return StreamingResponse(events())

    async def passed_through(request: Request, call_next: Any) -> Response:
        return await call_next(request)

    async def receive() -> Any:
        if not asked:
            asked.append(True)
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asked: list[bool] = []
    sent: list[Any] = []
    visits: list[Visit] = []
    layered = BaseHTTPMiddleware(Starlette(routes=[Route(CHAT, answer, methods=["POST"])]), dispatch=passed_through)
    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": [], "query_string": b""}
    asyncio.run(Gate(layered, ring=None, record=visits.append)(scope, receive, send))
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert visits[0].status == "cancelled"


def test_refused_requests_are_recorded_and_listings_are_not(ring: KeyRing) -> None:
    visits: list[Visit] = []
    gate = Gate(Front(), ring=ring, record=visits.append)
    call(gate)
    call(gate, "/v1/models", method="GET")
    assert [(visit.status, visit.key, visit.model) for visit in visits] == [("4xx", None, None)]
