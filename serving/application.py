"""The Serve application, its start and its end."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from cluster.machine.session import connect
from runspec.errors import ServingError
from serving.checks import check_start
from serving.engine.settings import FRONT_DOOR_CLASS, front_door_settings, llm_config_fields
from serving.plan import ServePlan

if TYPE_CHECKING:
    from ray.serve import Application

APPLICATION = "guitarfish"


def build_application(plan: ServePlan) -> Application:
    """The Ray Serve application: front door and model, not started. Ray has to be connected."""
    from ray.serve.llm import LLMConfig, LLMServingArgs, build_openai_app

    arguments = LLMServingArgs(
        llm_configs=[LLMConfig(**llm_config_fields(plan))],
        ingress_cls_config={"ingress_cls": FRONT_DOOR_CLASS, "ingress_extra_kwargs": {"plan": plan}},
        ingress_deployment_config=front_door_settings(),
    )
    return build_openai_app(arguments)


@dataclass
class Server:
    """A running server.

    Attributes:
        url: where it answers, without the /v1.
        logs: folder of Ray's and vLLM's logs, where they are on this machine.
        metrics: where each node gives out Prometheus metrics.
    """

    url: str
    logs: Path | None
    metrics: tuple[str, ...]
    _stack: ExitStack = field(repr=False)

    def wait(self) -> None:
        """Wait for Ctrl-C or SIGTERM."""
        ended = threading.Event()

        def end(_number: int, _frame: FrameType | None) -> None:
            ended.set()

        before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while not ended.wait(timeout=1):  # a wait without limit would not see the signal
                pass
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """End the application, Serve, and Ray where this process started it. Twice does no harm.

        What Ray prints meanwhile goes nowhere: it complains of each actor that ends, and its logs have it.
        """
        with _own_logging(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            self._stack.close()


def start(plan: ServePlan, *, blocking: bool, on_ready: Callable[[Server], None] | None = None) -> Server:
    """Start serving, and return when requests are answered.

    Args:
        plan: what is served.
        blocking: wait for Ctrl-C or SIGTERM, then stop.
        on_ready: called once the server answers.

    Raises:
        ServingError, RegistryError, StoreError: see `checks.check_start`.
        ServingError: the engine did not start; the message has its last words and where the logs are.
    """
    check_start(plan)
    with ExitStack() as stack, _own_logging():
        logs = stack.enter_context(connect()).logs
        stack.callback(_shut_down_serve)
        _run(plan, logs)
        server = Server(plan.url, logs, _metrics_urls(), stack.pop_all())
    try:
        if on_ready is not None:
            on_ready(server)
        if blocking:
            server.wait()
    except BaseException:
        server.stop()
        raise
    if blocking:
        server.stop()
    return server


def _metrics_urls() -> tuple[str, ...]:
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"] and node.get("MetricsExportPort")]
    return tuple(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics" for node in nodes)


def _run(plan: ServePlan, logs: Path | None) -> None:
    from ray import serve

    serve.start(http_options={"host": plan.spec.host, "port": plan.spec.port})
    try:
        serve.run(build_application(plan), name=APPLICATION, route_prefix="/", blocking=False)
    except RuntimeError as error:
        raise ServingError(
            f"The server did not start: {_last_words(str(error))}",
            where=f"logs: {logs / 'serve'}" if logs else "Ray Serve",
            fix="Read the newest replica_*.log there; `guitarfish doctor` says what this machine lacks.",
        ) from error


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line.partition(":")[0]]
    return (errors or lines or ["no reason was given"])[-1][:500]


@contextmanager
def _own_logging() -> Iterator[None]:
    """Keep this process's logging: importing ray.llm replaces the root logger's handlers by its own, and then Ray and
    vLLM say on the terminal what their logs have anyway."""
    root = logging.getLogger()
    handlers, level, disabled = root.handlers, root.level, root.manager.disable
    logging.disable(logging.WARNING)
    for name in ("ray", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(disabled)
        root.handlers = handlers
        root.setLevel(level)


def _shut_down_serve() -> None:
    """End our application, and Serve with it unless others run applications in it."""
    from ray import serve

    serve.delete(APPLICATION)
    if not serve.status().applications:
        serve.shutdown()
