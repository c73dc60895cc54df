"""What people give as a Ray cluster's address, and the URL that is made of it."""

import pytest

from cluster.machine.ray_address import dashboard_url, port_of
from runspec.errors import HardwareError


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://10.0.0.3:8265", "http://10.0.0.3:8265"),
        (" http://head:8265/ ", "http://head:8265"),
        ("https://ray.example.com/team/", "https://ray.example.com/team"),
        ("127.0.0.1:8265", "http://127.0.0.1:8265"),
        ("my-head.lan:80", "http://my-head.lan:80"),
        ("[::1]:8265", "http://[::1]:8265"),
    ],
)
def test_an_address_is_read(text: str, url: str) -> None:
    assert dashboard_url(text) == url


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("auto", "http://HOST:8265"),
        ("", "http://HOST:8265"),
        ("kubernetes", "--to k8s"),
        ("head", "http://HOST:8265"),
        ("http://", "http://HOST:8265"),
        ("http://head:port", "http://HOST:8265"),
        ("http://head:99999", "http://HOST:8265"),
        ("http://[::1:8265", "http://HOST:8265"),
        ("ftp://head:21", "http://HOST:8265"),
        ("ray://head:10001", "http://head:8265"),
    ],
)
def test_what_is_no_address_is_refused(text: str, fragment: str) -> None:
    with pytest.raises(HardwareError) as caught:
        dashboard_url(text)
    assert fragment in caught.value.fix


@pytest.mark.parametrize(
    "text", ["http://me:s3cret@head:8265", "http://s3cret@head:8265", "https://head/?token=s3cret"]
)
def test_credentials_in_an_address_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(HardwareError) as caught:
        dashboard_url(text)
    assert "RAY_AUTH_TOKEN" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_ports() -> None:
    assert [port_of(url) for url in ("http://a", "https://a", "http://a:6379")] == [80, 443, 6379]
