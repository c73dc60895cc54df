"""What is taken out of texts that are shown and stored, and what is left alone."""

from __future__ import annotations

import pickle

import pytest

from runspec.errors import StoreError
from runspec.secrets import redact, secret_values
from runspec.store_uri import carries_credentials

PLANTED = "planted/secret+value=="


@pytest.mark.parametrize(
    "name",
    ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "GUITARFISH_API_KEY", "DB_PASSWORD", "WANDB_API_KEY"],
)
def test_values_of_secret_variables_are_hidden(name: str) -> None:
    assert redact(f"it says {PLANTED}.", {name: PLANTED}) == "it says ***."


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENIZERS_PARALLELISM", "disabled"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token-of-the-pod"),
        ("AWS_ACCESS_KEY_ID", "guitarfish-tests"),
        ("HF_TOKEN", "short"),
    ],
)
def test_other_values_are_not(name: str, value: str) -> None:
    assert redact(f"it says {value}.", {name: value}) == f"it says {value}."


def test_a_secret_inside_another_is_hidden_whole() -> None:
    environment = {"A_TOKEN": "abcdefgh", "B_TOKEN": "abcdefgh-and-more"}
    assert secret_values(environment) == ["abcdefgh-and-more", "abcdefgh"]
    assert redact("abcdefgh-and-more", environment) == "***"


def test_user_and_password_in_a_url_are_hidden() -> None:
    assert redact("at http://key:pass@host:9000/x", {}) == "at http://***@host:9000/x"
    assert redact("mail me@example.org, see https://example.org/@me", {}).count("@") == 2


def test_the_query_of_a_url_is_hidden() -> None:
    said = redact("--set store=s3://bucket/team?token=planted-0123456789, key store", {})
    assert said == "--set store=s3://bucket/team?***, key store"


def test_api_keys_are_hidden() -> None:
    assert redact("Bearer gf-01ab23cd-0123456789abcdefXYZ_-", {}) == "Bearer gf-***"


def test_an_error_holds_no_secret_and_survives_pickling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PLANTED)
    error = StoreError(f"bad {PLANTED}", where=f"at {PLANTED}", fix=f"not {PLANTED}")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for seen in (error, pickle.loads(pickle.dumps(error))):
        assert PLANTED not in f"{seen}{seen.args}{seen!r}{seen.__dict__}"


@pytest.mark.parametrize(
    ("uri", "carries"),
    [
        ("s3://key:secret@bucket/x", True),
        ("s3://bucket/x?token=abc", True),
        ("s3://bucket/a@b", False),
        ("s3://bucket", False),
        ("./store@home", False),
        ("file:///srv/a@b?c", False),
    ],
)
def test_credentials_in_a_store_uri(uri: str, carries: bool) -> None:
    assert carries_credentials(uri) is carries
