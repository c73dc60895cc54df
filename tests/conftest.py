"""What all tests share: which kind a test is follows from its folder, and what this machine lacks is skipped."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SERVED = ("integration/served/", "unit/serving/engine/test_ray_llm_internals.py")
"""Share a server, and the import of vLLM. Parts of paths."""
INTEGRATION_SECONDS = 600
"""Integration tests start servers and load models: their limit, unless a test has its own."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # `make test &`: what a test starts would not hear its Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Under `-n`: the tests that share the server run in one process, from the start; the rest is handed out file by
    file. So no Ray that runs share is up in a process before the server's own is gone."""
    from xdist.scheduler import LoadFileScheduling

    class ServedTogether(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "served" if any(name in file for name in SERVED) else file

    config.option.loadscopereorder = False  # else files with many tests come first
    return ServedTogether(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by folder; skip those for a GPU where nvidia-smi is not there."""
    for item in items:
        folder = item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else ""
        if folder == "integration":
            item.add_marker(pytest.mark.integration)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(INTEGRATION_SECONDS))
        if folder == "gpu":
            item.add_marker(pytest.mark.gpu)
        if item.get_closest_marker("gpu") and shutil.which("nvidia-smi") is None:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
