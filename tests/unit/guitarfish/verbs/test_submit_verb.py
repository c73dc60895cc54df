"""What `guitarfish submit` makes of how a job ended, and of the store that later commands need."""

from pathlib import Path

import pytest

from cluster.jobs.jobs import JobState, JobStatus
from guitarfish.verbs.submit import exit_code_of, store_option


@pytest.mark.parametrize(
    ("state", "exit_code", "code"),
    [
        ("succeeded", 0, 0),
        ("failed", 1, 1),
        ("failed", 2, 2),
        ("failed", 3, 3),
        ("failed", 4, 4),
        ("failed", 130, 130),
        ("failed", 127, 1),
        ("failed", -9, 1),
        ("failed", None, 1),
        ("stopped", None, 130),
    ],
)
def test_a_followed_job_ends_the_command_as_the_run_ended(state: JobState, exit_code: int | None, code: int) -> None:
    assert exit_code_of(JobStatus(state=state, message="", exit_code=exit_code)) == code


def test_a_store_is_named_where_it_is_not_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GUITARFISH_STORE", raising=False)
    assert store_option(str(tmp_path / "store")) == ""
    assert store_option("s3://bucket/team") == " --store s3://bucket/team"
    monkeypatch.setenv("GUITARFISH_STORE", "s3://bucket/team")
    assert store_option("s3://bucket/team") == ""
