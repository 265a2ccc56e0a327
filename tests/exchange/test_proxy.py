"""Which proxy leads where."""

import pytest

from kline_trio.errors import ConfigError
from kline_trio.exchange.proxy import DIRECT, Proxy, proxy_for

HOST = "stream.binance.com"
HERE = Proxy(scheme="http", host="proxy.test", port=3128)


def found(environment: dict[str, str], host: str = HOST, port: int = 9443) -> str | None:
    proxy = proxy_for(host, port, None, environment)
    return proxy.url if proxy else None


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy.test:3128", HERE),
        ("proxy.test:3128", HERE),
        ("http://proxy.test", Proxy(scheme="http", host="proxy.test", port=80)),
        ("socks5://proxy.test", Proxy(scheme="socks5", host="proxy.test", port=1080)),
        ("socks5h://proxy.test", Proxy(scheme="socks5", host="proxy.test", port=1080)),
        ("SOCKS5://[::1]:9", Proxy(scheme="socks5", host="::1", port=9)),
        (
            "http://me%40home:p%3Aq%2Fr@proxy.test:3128",
            Proxy(
                scheme="http", host="proxy.test", port=3128, username="me@home", password="p:q/r"
            ),
        ),
        (
            "socks5://me@proxy.test",
            Proxy(scheme="socks5", host="proxy.test", port=1080, username="me", password=""),
        ),
    ],
)
def test_urls(url: str, proxy: Proxy) -> None:
    assert Proxy.from_url(url, "it") == proxy


@pytest.mark.parametrize(
    "url", ["https://p:secret@proxy.test", "socks4://x:secret@y", "http://:secret@", "secret:x:y"]
)
def test_what_is_no_proxy_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(ConfigError, match="the environment's ALL_PROXY: no http") as caught:
        Proxy.from_url(url, "the environment's ALL_PROXY")
    assert "secret" not in str(caught.value)


def test_secrets_are_not_shown() -> None:
    proxy = Proxy.from_url("http://myself:secret@[2001:db8::1]:8080", "it")
    assert proxy.url == "http://[2001:db8::1]:8080"
    assert "secret" not in repr(proxy)
    assert "myself" not in repr(proxy)


def test_the_configuration_comes_first() -> None:
    environment = {"HTTPS_PROXY": "http://other.test", "NO_PROXY": "*"}
    assert proxy_for(HOST, 443, DIRECT, environment) is None
    assert proxy_for(HOST, 443, "http://proxy.test:3128", environment) == HERE
    with pytest.raises(ConfigError, match=r"connection\.proxy"):
        proxy_for(HOST, 443, "ftp://proxy.test", environment)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "x.localhost"])
@pytest.mark.parametrize("setting", [None, "http://proxy.test"])
def test_no_proxy_leads_to_this_machine(host: str, setting: str | None) -> None:
    assert proxy_for(host, 443, setting, {"ALL_PROXY": "http://proxy.test"}) is None


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, None),
        ({"HTTP_PROXY": "http://a.test"}, None),
        ({"HTTPS_PROXY": "http://a.test"}, "http://a.test:80"),
        ({"https_proxy": "a.test:81"}, "http://a.test:81"),
        ({"https_proxy": "http://a.test", "HTTPS_PROXY": "http://b.test"}, "http://a.test:80"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://b.test"}, None),
        ({"ALL_PROXY": "socks5h://a.test"}, "socks5://a.test:1080"),
        ({"all_proxy": "socks5://a.test", "HTTPS_PROXY": "http://b.test"}, "http://b.test:80"),
    ],
)
def test_the_environment(environment: dict[str, str], url: str | None) -> None:
    assert found(environment) == url


@pytest.mark.parametrize(
    ("excluded", "host", "is_excluded"),
    [
        ("", HOST, False),
        ("*", HOST, True),
        ("binance.com", HOST, True),
        (".binance.com", HOST, True),
        ("*.binance.com", HOST, True),
        ("Stream.Binance.com", HOST, True),
        ("nance.com", HOST, False),
        ("api.binance.com", HOST, False),
        ("other.test, , stream.binance.com", HOST, True),
        ("binance.com:9443", HOST, True),
        ("binance.com:443", HOST, False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("[2001:db8::1]", "2001:db8::1", True),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::/32", "10.1.2.3", False),
        ("10.0.0.0/8", HOST, False),
    ],
)
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_exclusions(name: str, excluded: str, host: str, is_excluded: bool) -> None:
    environment = {"HTTPS_PROXY": "http://a.test", name: excluded}
    assert (found(environment, host) is None) == is_excluded
