"""The Ray Serve application: build, start, stop."""

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
from serving.engine.settings import FRONT_DOOR_CLASS, llm_config_fields
from serving.plan import ServePlan

if TYPE_CHECKING:
    from ray.serve import Application

APPLICATION = "guitarfish"


def build_application(plan: ServePlan) -> Application:
    """The Ray Serve application: front door and model, not started. Ray must be connected."""
    from ray.serve.llm import LLMConfig, LLMServingArgs, build_openai_app

    arguments = LLMServingArgs(
        llm_configs=[LLMConfig(**llm_config_fields(plan))],
        ingress_cls_config={"ingress_cls": FRONT_DOOR_CLASS, "ingress_extra_kwargs": {"plan": plan}},
        # The front door only waits for the replicas, so it reserves no core.
        ingress_deployment_config={"num_replicas": 1, "ray_actor_options": {"num_cpus": 0}},
    )
    return build_openai_app(arguments)


@dataclass
class Server:
    """A running server.

    Attributes:
        url: its address, without the /v1.
        logs: folder of Ray's and vLLM's logs, if they are on this machine.
        metrics: addresses of each node's Prometheus metrics.
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
            while not ended.wait(timeout=1):  # a wait without a timeout would not see the signal
                pass
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """Stop the application, Serve, and Ray if this process started it. A second call does nothing.

        What Ray prints meanwhile is dropped: it complains about each actor that ends, and its logs have it.
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
        ServingError: the engine did not start; the message has its last words, `where` the logs.
    """
    check_start(plan)
    with ExitStack() as stack, _own_logging():
        import ray
        from ray import serve

        logs = stack.enter_context(connect()).logs
        stack.callback(_shut_down_serve)
        serve.start(http_options={"host": plan.spec.host, "port": plan.spec.port})
        try:
            serve.run(build_application(plan), name=APPLICATION, route_prefix="/", blocking=False)
        except RuntimeError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            errors = [line for line in lines if "Error" in line.partition(":")[0]]
            raise ServingError(
                f"The server did not start: {(errors or lines or ['no reason was given'])[-1][:500]}",
                where=f"logs: {logs / 'serve'}" if logs else "Ray Serve",
                fix="Read the newest replica_*.log there; `guitarfish doctor` shows what this machine lacks.",
            ) from error
        nodes = [node for node in ray.nodes() if node["Alive"] and node.get("MetricsExportPort")]
        metrics = tuple(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics" for node in nodes)
        server = Server(plan.url, logs, metrics, stack.pop_all())
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


@contextmanager
def _own_logging() -> Iterator[None]:
    """Keep this process's logging: importing ray.llm replaces the root logger's handlers by its own, and then Ray and
    vLLM print on the terminal what their logs have anyway."""
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
    """Delete our application, and stop Serve unless it runs others."""
    from ray import serve

    serve.delete(APPLICATION)
    if not serve.status().applications:
        serve.shutdown()
