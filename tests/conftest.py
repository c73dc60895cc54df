"""What all tests share: which kind a test is follows from its folder, and what this machine lacks is skipped."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).parent
INTEGRATION_SECONDS = 600
"""Integration tests start servers and load models: their limit, unless a test has its own."""


def _sharing(file: Path) -> str:
    """Which tests stay in one process under `-n`: those of a file, and of a folder that shares a server."""
    return str(file.parent if file.parent.name == "served" else file)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by folder; skip those for a GPU where nvidia-smi is not there."""
    for item in items:
        folder = item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else ""
        if folder == "integration":
            item.add_marker(pytest.mark.integration)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(INTEGRATION_SECONDS))
        item.add_marker(pytest.mark.xdist_group(_sharing(item.path)))
        if folder == "gpu":
            item.add_marker(pytest.mark.gpu)
        if item.get_closest_marker("gpu") and shutil.which("nvidia-smi") is None:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
