"""Every command that a README names exists, with the options it is given; `make demo` itself is an integration test."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from guitarfish.commands import VERBS, load_command

ROOT = Path(__file__).parents[3]
READMES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "k8s" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]


def commands(program: str) -> list[str]:
    """The lines of code of all READMEs that call a program, without their comments."""
    lines = [line for readme in READMES for line in readme.read_text().splitlines()]
    calls = [line.strip().removeprefix("$ ") for line in lines if line.startswith(("    ", "$ "))]
    return sorted({call.split("  #")[0].strip() for call in calls if call.startswith(f"{program} ")})


@pytest.mark.parametrize("line", commands("guitarfish"))
def test_a_command_of_a_readme_exists(line: str) -> None:
    _, verb, *arguments = shlex.split(line)
    assert verb in VERBS
    command = load_command(verb)
    if hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    options = {name for parameter in command.params for name in parameter.opts}
    assert [word for word in arguments if word.startswith("--") and word not in options] == []
    files = [word for word in arguments if word.startswith(("examples/", "k8s/")) and word.endswith(".yaml")]
    assert [file for file in files if not (ROOT / file).exists()] == []


@pytest.mark.parametrize("line", commands("make"))
def test_a_make_target_of_a_readme_exists(line: str) -> None:
    assert re.search(rf"^{line.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_readmes_were_read() -> None:
    assert len(commands("guitarfish")) >= 10
    assert "make demo" in commands("make")
