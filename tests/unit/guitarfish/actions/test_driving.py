"""What the verbs that start runs share."""

import pytest

from guitarfish.actions.running import given_again
from runspec.errors import DataError, InterruptedRunError, RunFailedError


def test_a_run_that_only_measures_is_given_again_not_resumed() -> None:
    with pytest.raises(InterruptedRunError) as stopped, given_again():
        raise InterruptedRunError("stopped", fix="guitarfish train --resume x")
    assert "again" in stopped.value.fix
    assert "train" not in stopped.value.fix
    with pytest.raises(RunFailedError) as failed, given_again():
        raise RunFailedError("a worker failed", where="log", fix="guitarfish train --resume x")
    assert (failed.value.what, failed.value.where) == ("a worker failed", "log")
    assert "train" not in failed.value.fix


def test_other_errors_pass() -> None:
    with pytest.raises(DataError, match="bad row"), given_again():
        raise DataError("bad row", where="x", fix="y")
