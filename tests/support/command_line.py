"""Command lines that are refused, and the run file that the tests of bad input begin with."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from guitarfish.__main__ import run

GOOD = """\
name: my-run
model:
  source: {kind: hub, id: some/model}
data:
  source: {kind: file, path: data.jsonl}
"""


def refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], fragments: Iterable[str], *, code: int = 2
) -> None:
    """The command line ends with the code and nothing but an error with a fix, which holds the fragments."""
    found = run(arguments)
    out, err = capsys.readouterr()
    assert found == code, err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert "fix:" in err
    assert "error" in json.loads(out) if "--json" in arguments else out == ""
    for fragment in fragments:
        assert fragment in err
