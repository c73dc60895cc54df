"""Every file or folder of this repository that a page names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = "guitarfish|tuning|training|serving|registry|cluster|runspec|k8s|examples|benchmarks|tests|docs|scripts|locks"
NAMED = re.compile(rf"(?<![\w./-])(?:{FOLDERS})/[\w./-]*\w")
LINK = re.compile(r"\]\(([^)#:]+)\)")
PAGES = sorted(
    page for top in (".", "docs", "docs/decisions", "examples/*", "k8s") for page in ROOT.glob(f"{top}/*.md")
)
MADE = "data"
"""Folder below an example that its commands write."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    named = [name for name in NAMED.findall(text) if MADE not in Path(name).parts[2:]]
    missing = [name for name in named if not (ROOT / name).exists() and not (page.parent / name).exists()]
    missing += [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    assert missing == []
