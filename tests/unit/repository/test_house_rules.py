"""What holds for every file: YAML parses, locks name no host, modules say what they are for, none is a grab-bag."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from runspec.load import load_run

ROOT = Path(__file__).parents[3]
ROOMS = ("guitarfish", "tuning", "training", "serving", "registry", "cluster", "runspec")


def tracked(*patterns: str) -> list[Path]:
    """Files that git knows, or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def modules() -> list[Path]:
    """Our modules, empty package files apart."""
    return [file for file in tracked("*.py") if file.relative_to(ROOT).parts[0] in ROOMS and file.name != "__init__.py"]


def test_every_yaml_parses() -> None:
    files = tracked("*.yaml", "*.yml")
    assert files
    for file in files:
        list(yaml.safe_load_all(file.read_text()))


def test_every_example_is_a_valid_run_file() -> None:
    for file in tracked("examples/*/*.yaml"):
        load_run(file)


def test_locks_name_no_host() -> None:
    for lock in tracked("locks/*.txt"):
        assert "://" not in lock.read_text(), lock.name


def test_every_module_says_what_it_is_for() -> None:
    for file in tracked("*.py"):
        if file.name != "__init__.py":
            assert ast.get_docstring(ast.parse(file.read_text())), file


def test_package_files_are_empty() -> None:
    for file in tracked("*/__init__.py"):
        assert file.read_text() == "", file


def test_no_grab_bags() -> None:
    for file in modules():
        assert file.stem not in ("utils", "common", "helpers", "misc", "base"), file


def test_every_error_class_has_a_fix_or_says_why() -> None:
    """An error for the user that is raised with neither place nor fix helps nobody."""
    for file in modules():
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and re.fullmatch(r"(Spec|Data|Model|Store|Registry|Serving|Hardware|User)Error", node.func.id)
            ):
                given = {keyword.arg for keyword in node.keywords}
                assert given & {"where", "fix", None}, f"{file}:{node.lineno}"
