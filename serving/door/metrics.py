"""The server's own Prometheus metrics. Ray gives them out beside its own and vLLM's, on each node's metrics port."""

from __future__ import annotations

from typing import Any

from serving.door.gate import Visit

NONE = "-"
"""Stands for no model and for no key: no model, and no key's id, can be called so."""
SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300]
"""Upper bounds of the histograms' buckets."""


class RequestMetrics:
    """Metrics of the front door. Ray has to be connected."""

    def __init__(self) -> None:
        from ray.util.metrics import Counter, Histogram

        labels = ("model", "key")
        self._requests = Counter("guitarfish_requests", "Requests that ended.", (*labels, "status"))
        self._prompt = Counter("guitarfish_prompt_tokens", "Prompt tokens, as the engine counted them.", labels)
        self._completion = Counter("guitarfish_completion_tokens", "Tokens of answers, as the engine counts.", labels)
        self._first: Any = Histogram(
            "guitarfish_seconds_to_first_token", "From arrival to the first token.", SECONDS, labels
        )
        self._loads: Any = Histogram(
            "guitarfish_adapter_load_seconds", "To fetch, load and check an adapter.", SECONDS, ("model",)
        )
        self._whole: Any = Histogram("guitarfish_request_seconds", "From arrival to the last token.", SECONDS, labels)

    def record(self, visit: Visit) -> None:
        """Count a request that has ended."""
        tags = {"model": visit.model or NONE, "key": visit.key.id if visit.key else NONE}
        self._requests.inc(1, {**tags, "status": visit.status})
        prompt, completion = visit.tokens
        if prompt:
            self._prompt.inc(prompt, tags)
        if completion:
            self._completion.inc(completion, tags)
        if visit.load_seconds:
            self._loads.observe(visit.load_seconds, {"model": tags["model"]})
        if visit.status == "2xx":
            self._whole.observe(visit.ended_at - visit.began_at, tags)
            self._first.observe((visit.first_token_at or visit.ended_at) - visit.began_at, tags)
