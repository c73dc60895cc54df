"""The settings of Ray Serve's LLM deployment and of vLLM, computed from the plan. Nothing is started here."""

from __future__ import annotations

from typing import Any

from serving.plan import ServePlan

CPU_WORKER_CLASS = "serving.engine.vllm_cpu_lora.WorkerExtension"
PLAN_KEY = "guitarfish_plan"
"""Key under which the replica gets the plan: Ray passes `experimental_configs` on unchanged."""
SERVER_CLASS = "serving.engine.ray_llm_internals:AdapterServer"
CALLBACK_CLASS = "serving.engine.ray_llm_internals:ModelIsHere"
FRONT_DOOR_CLASS = "serving.engine.ray_llm_internals:FrontDoor"
MAX_GPU_SLOTS = 16
"""Most adapters in one batch. A slot takes memory at full rank for every layer, even when unused."""
STREAM_BATCHING_MS = 10
"""Ray batches streamed tokens for 50 ms by default, which delays the first token noticeably."""


def llm_config_fields(plan: ServePlan) -> dict[str, Any]:
    """The fields of `ray.serve.llm.LLMConfig` for this plan."""
    return {
        "model_loading_config": {"model_id": plan.base_name, "model_source": plan.model_source},
        "engine_kwargs": engine_arguments(plan),
        "accelerator_config": {"kind": plan.accelerator},
        "placement_group_config": {
            "bundle_per_worker": {"CPU": plan.cores_per_replica} if plan.accelerator == "cpu" else {"CPU": 1, "GPU": 1}
        },
        "lora_config": {"dynamic_lora_loading_path": None, "max_num_adapters_per_replica": plan.spec.max_adapters},
        "server_cls": SERVER_CLASS,
        "callback_config": {"callback_class": CALLBACK_CLASS},
        "deployment_config": deployment_settings(plan),
        "runtime_env": {"env_vars": environment(plan)},
        "experimental_configs": {PLAN_KEY: plan, "stream_batching_interval_ms": STREAM_BATCHING_MS},
    }


def engine_arguments(plan: ServePlan) -> dict[str, Any]:
    """vLLM's own arguments.

    Adapters are cached in main memory (`max_cpu_loras`) and need a slot to take part in a batch (`max_loras`, default
    1, with which two tenants would take turns).
    """
    spec = plan.spec
    slots = min(spec.max_adapters, MAX_GPU_SLOTS)
    arguments: dict[str, Any] = {
        "dtype": plan.dtype,
        "max_model_len": spec.max_model_len,
        "max_num_seqs": spec.max_ongoing_requests,
        "enable_lora": True,
        "max_lora_rank": spec.max_rank,
        "logprobs_mode": "raw_logprobs",  # the canary needs the model's own, from before `allowed_token_ids`
        "max_loras": slots,
        "max_cpu_loras": max(slots, spec.max_adapters),
    }
    if plan.accelerator == "cpu":
        # With adapters vLLM compiles nothing on CPU; eager mode and an exact cache size also skip its warm-up.
        arguments |= {"enforce_eager": True, "kv_cache_memory_bytes": plan.kv_cache_bytes}
        arguments["worker_extension_cls"] = CPU_WORKER_CLASS
    if plan.hub is not None:
        arguments |= {"revision": plan.hub.revision, "tokenizer_revision": plan.hub.revision}
    if plan.chat_template is not None:
        arguments["chat_template"] = str(plan.chat_template)
    if plan.trust_remote_code:
        arguments["trust_remote_code"] = True
    return arguments


def deployment_settings(plan: ServePlan) -> dict[str, Any]:
    """Ray Serve's settings of the model's deployment.

    Ray's defaults for LLM deployments never scale and never push back: both limits are 1e9 requests. Here a replica
    takes `max_ongoing_requests`, `max_queued_requests` wait at the front door, and further ones are answered 429.
    """
    spec = plan.spec
    settings: dict[str, Any] = {
        "max_ongoing_requests": spec.max_ongoing_requests,
        "max_queued_requests": plan.max_queued_requests,
        "max_constructor_retry_count": 1,  # a replica that cannot start fails now, not after three tries
        "ray_actor_options": {"num_cpus": 0},  # the placement group below reserves the cores
        "graceful_shutdown_timeout_s": 10,
    }
    if spec.max_replicas == spec.min_replicas:
        return settings | {"num_replicas": spec.min_replicas}
    # By default Ray reports the load every 10 s and averages it over 30 s: a delay of 2 s would last 40. Both have to
    # be shorter than the delays, and the average longer than two reports.
    interval = min(10.0, max(0.5, min(spec.scale_up_after_s, spec.scale_down_after_s) / 4))
    return settings | {
        "autoscaling_config": {
            "min_replicas": spec.min_replicas,
            "initial_replicas": spec.min_replicas,
            "max_replicas": spec.max_replicas,
            "target_ongoing_requests": spec.target_ongoing_requests or max(1, spec.max_ongoing_requests // 2),
            "upscale_delay_s": spec.scale_up_after_s,
            "downscale_delay_s": spec.scale_down_after_s,
            "metrics_interval_s": interval,
            "look_back_period_s": min(30.0, max(3 * interval, spec.scale_up_after_s)),
        }
    }


def environment(plan: ServePlan) -> dict[str, str]:
    """Environment of the replica and of its vLLM processes."""
    variables = {"VLLM_NO_USAGE_STATS": "1"}
    if plan.accelerator == "cpu":
        # vLLM's own binding gives every replica of a machine the same cores. Like vLLM, we leave one core to the
        # processes around the worker: threads that wait for a core spin, and slow down all the others.
        threads = max(1, plan.cores_per_replica - 1)
        variables |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(threads)}
        # An eager engine compiles only one small helper for log-probabilities. That needs a C++ compiler, and takes
        # half a minute in the first request for log-probabilities, which is a canary's.
        variables["TORCHDYNAMO_DISABLE"] = "1"
    return variables
