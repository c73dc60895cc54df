"""What all tests share: which kind a test is follows from its folder, and what this machine lacks is skipped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
INTEGRATION_SECONDS = 600
"""Integration tests start servers and load models: their limit, unless a test has its own."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Under `-n`, the tests of a file stay in one process, and so do those of a folder that shares a server."""
    from xdist.scheduler import LoadFileScheduling

    class SharingAServer(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            folder, _, file = nodeid.partition("::")[0].rpartition("/")
            return folder if folder.endswith("/served") else f"{folder}/{file}"

    return SharingAServer(config, log)


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
