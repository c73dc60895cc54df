"""Everything that depends on the internals of Ray Serve LLM: the front door, the replica, the adapter loader.

`ray.llm._internal` and underscored methods may change with any release of Ray. Only this file uses them, and
tests/unit/serving/engine/test_ray_llm_internals.py says which one changed.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import OrderedDict, defaultdict
from collections.abc import AsyncGenerator, Awaitable
from contextvars import ContextVar
from typing import Any

from ray import serve
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError
from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.llm._internal.serve.core.configs.llm_config import DiskMultiplexConfig
from ray.llm._internal.serve.core.configs.openai_api_models import (
    CompletionRequest,
    ErrorInfo,
    ErrorResponse,
    ModelCard,
    ModelList,
    OpenAIHTTPException,
)
from ray.llm._internal.serve.utils.lora_serve_utils import LoraModelLoader
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.llm.deployment import LLMServer
from ray.serve.llm.ingress import OpenAiIngress
from starlette.responses import JSONResponse, Response
from vllm.entrypoints.generate.base.protocol import StreamOptions
from vllm.v1.engine.exceptions import EngineDeadError

from cluster.store.storage import open_store
from registry.adapters import Registry
from registry.card import AdapterCard
from runspec.errors import GuitarfishError, RegistryError
from serving.door import answers
from serving.door.catalogue import Catalogue, Served
from serving.door.gate import Gate, Visit, current_visit
from serving.door.keyring import KeyRing
from serving.door.metering import Bookkeeper, Meter, RequestMetrics
from serving.door.stream_usage import AdapterLoad, Wanted, note_usage
from serving.engine.adapters import fetch_adapter
from serving.engine.canary import judge
from serving.engine.settings import PLAN_KEY
from serving.plan import ServePlan

log = logging.getLogger(__name__)

VERSION_HEADER = "x-guitarfish-version"
DIGEST_HEADER = "x-guitarfish-digest"
HANDLES_KEPT = 256
CANARY_TOKENS = 32
"""Most answer tokens that are replayed: each is a request."""
GONE = (ActorDiedError, ActorUnavailableError, DeploymentUnavailableError, EngineDeadError)
RETRY_REFUSED_S = 30.0
"""How long a replica refuses an adapter that failed its canary before it tries again."""
_load_seconds: ContextVar[float] = ContextVar("guitarfish_load_seconds", default=0.0)
"""How long this request waited for its adapter to be loaded; 0 if the replica had it."""


class FrontDoor(OpenAiIngress):
    """The OpenAI endpoints. Names are resolved to immutable versions before a request goes any further."""

    def __init__(self, llm_deployments: Any, model_cards: Any, *, plan: ServePlan, **kwargs: Any) -> None:
        super().__init__(llm_deployments, model_cards, **kwargs)
        store = open_store(plan.store)
        self._plan = plan
        self._catalogue = Catalogue(plan, Registry(store))
        self._ring = KeyRing(store, plan.alias_seconds) if plan.asks_for_keys else None
        self._handles: OrderedDict[str, Any] = OrderedDict()
        self._meter, self._metrics = Meter(plan), RequestMetrics()
        self._books = Bookkeeper(self._meter, store, count_replicas)
        self._keeping_books = asyncio.get_running_loop().create_task(self._books.run())
        self._keeping_books.add_done_callback(_log_failure)

    async def __del__(self) -> None:
        """Called by Ray when the front door ends: write the last usage record."""
        self._keeping_books.cancel()
        await self._books.write()

    def _set_asgi_app(self, app: Any) -> None:
        """Called by Ray with the whole application: the gate goes around all of it."""
        app.add_middleware(Gate, ring=self._ring, record=self._record)
        super()._set_asgi_app(app)

    def _record(self, visit: Visit) -> None:
        self._meter.record(visit)
        self._metrics.record(visit)

    async def _process_llm_request(self, body: Any, call_method: str, raw_request: Any = None) -> Response:
        """Answer a chat or completion request; errors in OpenAI's form, version and digest in headers."""
        refusal = answers.refuse_prompt_logprobs(body)
        if refusal is not None:
            return _as_response(refusal)
        asked, visit = body.model, current_visit()
        try:
            response: Response = await super()._process_llm_request(body, call_method, raw_request)
        except (GuitarfishError, OpenAIHTTPException, RayServeException, RayError) as error:
            response = await self._refuse(error, asked)
        if visit.model is not None:
            response.headers[VERSION_HEADER] = visit.model
            response.headers[DIGEST_HEADER] = visit.digest or ""
        return response

    async def _get_response(self, *, body: Any, call_method: str, raw_request: Any = None) -> AsyncGenerator[Any, None]:
        """Every endpoint comes through here: from now on `body.model` is the immutable name, which the answer has."""
        visit = current_visit()
        served = await self._resolve(body.model)
        body.model = visit.model = served.model
        visit.digest = served.card.weights_sha256 if served.card else self._plan.base_digest
        wanted = _count_tokens(body)
        with self._meter.at_work():
            responses = super()._get_response(body=body, call_method=call_method, raw_request=raw_request)
            async for response in responses:
                passed_on = response if isinstance(response, ErrorResponse) else note_usage(visit, response, wanted)
                if passed_on != []:
                    yield passed_on

    async def _resolve(self, model: str | None) -> Served:
        """What answers for a name, if the request's key may use it; otherwise the name is not even looked up.

        Raises:
            GuitarfishError: see `Catalogue.resolve`; RegistryError if the key may not use it.
        """
        asks_for_base = model is None or model == self._plan.base_name
        if not current_visit().may_use(None if asks_for_base else str(model).partition("@")[0]):
            raise RegistryError(f"This key may not use {model!r}.", where="model")
        return await self._catalogue.resolve(model)

    async def _visible(self) -> dict[str, Served]:
        visit, listing = current_visit(), await self._catalogue.listing()
        return {
            name: served
            for name, served in listing.items()
            if visit.may_use(served.card.adapter if served.card else None)
        }

    async def _get_model_id(self, model: str) -> str:
        """Ray's name for it: adapters as `BASE:NAME@VERSION`."""
        return model if model == self._plan.base_name else f"{self._plan.base_name}:{model}"

    def _get_configured_serve_handle(self, model_id: str) -> Any:
        """A handle that routes to replicas which have the adapter. Ray keeps one for each id for ever; here only the
        last used ones are kept, and all share one router."""
        if model_id in self._handles:
            self._handles.move_to_end(model_id)
            return self._handles[model_id]
        handle = self._default_serve_handles[self._plan.base_name]
        if not handle.is_initialized:
            handle._init()  # options() of an initialised handle share its router
        adapter = {} if model_id == self._plan.base_name else {"multiplexed_model_id": model_id}
        self._handles[model_id] = handle.options(stream=True, **adapter)
        if len(self._handles) > HANDLES_KEPT:
            self._handles.popitem(last=False)
        return self._handles[model_id]

    async def models(self) -> ModelList:
        """GET /v1/models: the base, every alias and every version that this server can serve and the key may use."""
        return ModelList(data=[self._model_card(name, served) for name, served in (await self._visible()).items()])

    async def model_data(self, model: str) -> Any:
        """GET /v1/models/{model}."""
        try:
            return self._model_card(model, await self._resolve(model))
        except GuitarfishError as error:
            return await self._refuse(error, model)

    def _model_card(self, name: str, served: Served) -> ModelCard:
        facts: dict[str, Any] = {"served_as": served.model, "max_model_len": self._plan.spec.max_model_len}
        if served.card is not None:
            facts |= {"base_model": self._plan.base_name, "adapter": served.card.adapter}
            facts |= {"version": served.card.version, "rank": served.card.rank, "run_id": served.card.run_id}
        return ModelCard(id=name, object="model", owned_by="guitarfish", permission=[], metadata=facts)

    async def _refuse(self, error: Exception, asked: str | None) -> JSONResponse:
        cause = getattr(error, "cause", None) or error  # Ray wraps what a replica raised
        if isinstance(cause, RegistryError) and self._ring is not None:
            answer = answers.no_such_model(asked or self._plan.base_name, list(await self._visible()))
        elif isinstance(cause, GuitarfishError):
            answer = answers.of(cause, list(await self._visible()))
        elif isinstance(cause, BackPressureError):
            answer = answers.busy(self._plan.max_queued_requests)
        elif isinstance(cause, OpenAIHTTPException) and cause.status_code == 408:
            answer = answers.TIMED_OUT
        elif isinstance(cause, OpenAIHTTPException):
            answer = answers.engine_error(cause.status_code, cause.message, cause.type)
        else:
            log.error("a request failed: %s", error)
            answer = answers.REPLICA_LOST if isinstance(cause, GONE) else answers.INTERNAL_ERROR
        return _as_response(answer)


class AdapterServer(LLMServer):
    """A replica: vLLM with the base model; adapters come from the registry and pass their canary before they answer."""

    async def __init__(self, llm_config: Any, **kwargs: Any) -> None:  # type: ignore[misc]  # Ray awaits it
        self._plan: ServePlan = llm_config.experimental_configs[PLAN_KEY]
        self._loading: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._passed: dict[str, int] = {}
        self._refused: dict[str, tuple[float, str]] = {}
        kwargs.setdefault("model_downloader", RegistryLoader)
        await super().__init__(llm_config, **kwargs)

    async def chat(self, request: Any, raw_request_info: Any = None) -> AsyncGenerator[Any, None]:
        return _after_load(super().chat(request, raw_request_info))

    async def completions(self, request: Any, raw_request_info: Any = None) -> AsyncGenerator[Any, None]:
        return _after_load(super().completions(request, raw_request_info))

    async def _maybe_resolve_lora_from_multiplex(self) -> None:
        """Load the request's adapter and replay its canary.

        One request at a time for each adapter: otherwise two first requests would both ask vLLM to load it, and vLLM
        refuses the second.
        """
        _load_seconds.set(0.0)
        model_id = serve.get_multiplexed_model_id()
        if not model_id:
            return
        async with self._loading[model_id]:
            began = time.monotonic()
            disk: LoadedAdapter = await self._load_model(model_id)
            await self.engine.resolve_lora(disk)
            if self._passed.get(model_id) != disk.lora_assigned_int_id:
                await self._replay_canary(disk)
                self._passed[model_id] = disk.lora_assigned_int_id
                _load_seconds.set(time.monotonic() - began)

    async def _replay_canary(self, disk: LoadedAdapter) -> None:
        until, reason = self._refused.get(disk.model_id, (0.0, ""))
        if time.monotonic() < until:
            raise _failed_canary(disk.model_id, reason)
        canary = disk.card.canary
        if canary is None:
            log.warning("%s has no canary and is served unchecked", disk.model_id)
            return
        # Each answer token is the first token of a request of its own: see `answers.refuse_prompt_logprobs` for why.
        answer = canary.answer_token_ids[:CANARY_TOKENS]
        scores = (
            self._score(disk.model_id, canary.prompt_token_ids + answer[:place], token)
            for place, token in enumerate(answer)
        )
        served = await asyncio.gather(*scores)
        verdict = judge(served, canary.tuned_logprobs[:CANARY_TOKENS], canary.base_logprobs[:CANARY_TOKENS])
        if not verdict.passed:
            self._refused[disk.model_id] = (time.monotonic() + RETRY_REFUSED_S, verdict.reason)
            raise _failed_canary(disk.model_id, verdict.reason)
        level = logging.INFO if verdict.conclusive else logging.WARNING
        log.log(level, "%s passed its canary: %s", disk.model_id, verdict.reason)

    async def _score(self, model: str, before: list[int], token: int) -> float:
        """Log-probability of a token after others, in nats, as the engine computes it."""
        request = CompletionRequest(
            model=model, prompt=before, max_tokens=1, temperature=0, logprobs=1, allowed_token_ids=[token]
        )  # the log-probability is from before `allowed_token_ids` is applied: see `logprobs_mode` in settings.py
        async for response in self.engine.completions(request):
            if isinstance(response, ErrorResponse):
                raise _failed_canary(model, response.error.message)
            return float(response.choices[0].logprobs.token_logprobs[0])
        raise _failed_canary(model, "the engine did not answer")


class ModelIsHere(CallbackBase):
    """Keeps Ray from downloading the model: it would start a task on every node, which imports vLLM once more, for 10
    to 25 s."""

    async def on_before_node_init(self) -> None:
        self.ctx.run_init_node = False


class LoadedAdapter(DiskMultiplexConfig):  # type: ignore[misc,unused-ignore]
    """An adapter on this machine's disk, with its card."""

    card: AdapterCard


class RegistryLoader(LoraModelLoader):
    """Loads adapters from the registry; Ray's own loader loads them from a bucket."""

    _numbers = itertools.count(1)

    async def load_model_from_config(self, lora_model_id: str, llm_config: Any) -> LoadedAdapter:
        """Fetch and check `BASE:NAME@VERSION`. Raises GuitarfishError: see `fetch_adapter`."""
        plan: ServePlan = llm_config.experimental_configs[PLAN_KEY]
        name = lora_model_id.removeprefix(f"{plan.base_name}:")
        adapter, _, version = name.rpartition("@")
        registry = await asyncio.to_thread(lambda: Registry(open_store(plan.store)))
        card, folder = await asyncio.to_thread(fetch_adapter, registry, adapter, int(version), plan)
        return LoadedAdapter(
            model_id=name,
            max_total_tokens=None,
            local_path=str(folder),
            lora_assigned_int_id=next(self._numbers),
            card=card,
        )


def count_replicas() -> int | None:
    """Replicas of the model, in any state; None if Serve does not know."""
    here = serve.get_replica_context()
    try:
        application = serve.status().applications.get(here.app_name)
    except (RayServeException, RayError) as error:
        log.warning("the replicas cannot be counted: %s", error)
        return None
    if application is None:  # it is being deleted
        return None
    others = [one for name, one in application.deployments.items() if name != here.deployment]
    return sum(sum(one.replica_states.values()) for one in others)


def _count_tokens(body: Any) -> Wanted:
    """Make the engine report its token counts in every chunk of a stream."""
    options = getattr(body, "stream_options", None)
    at_end = bool(options and options.include_usage)
    wanted = Wanted(at_end=at_end, in_each=at_end and bool(options and options.continuous_usage_stats))
    if getattr(body, "stream", False):
        body.stream_options = StreamOptions(include_usage=True, continuous_usage_stats=True)
    return wanted


def _as_response(answer: answers.ApiError) -> JSONResponse:
    return JSONResponse(answer.body, status_code=answer.status, headers=answer.headers)


def _failed_canary(model: str, reason: str) -> GuitarfishError:
    return GuitarfishError(
        f"{model} failed its canary and is not served: {reason}.",
        where=f"adapter {model}",
        fix="Roll the alias back to the previous version, or publish the adapter again.",
    )


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("usage is no longer written", exc_info=task.exception())


async def _after_load(answering: Awaitable[AsyncGenerator[Any, None]]) -> AsyncGenerator[Any, None]:
    """A replica's answer, preceded by how long its adapter took to load; a 503 if the adapter cannot be served."""
    try:
        answer = await answering
    except GuitarfishError as error:
        log.error("%s", error)
        info = ErrorInfo(message=answers.text_of(error), type="service_unavailable_error", code=503)
        yield ErrorResponse(error=info)
        return
    if _load_seconds.get():
        yield AdapterLoad(_load_seconds.get())
    async for part in answer:
        yield part
