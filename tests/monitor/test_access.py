"""Who may read: the method, the Host header, and the token."""

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.monitor.access import Access
from kline_trio.monitor.http_message import Request
from tests.monitor.http import WALL_SECONDS

TOKEN = "0123456789abcdef-right"


def request(host: str | None = "localhost", method: str = "GET", **headers: str) -> Request:
    named = {} if host is None else {"host": host}
    return Request(method=method, target="/metrics", headers={**named, **headers})


def status(access: Access, asked: Request) -> int:
    refusal = access.refusal(asked, WALL_SECONDS)
    return 200 if refusal is None else refusal.status


LOCAL = Access.to("127.0.0.1:8787", (), None)
SECRET = Access.to("127.0.0.1:8787", (), TOKEN)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_readers_may_get_and_head(method: str) -> None:
    assert status(LOCAL, request(method=method)) == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get", "PROPFIND", ""])
def test_no_other_method_passes(method: str) -> None:
    refusal = LOCAL.refusal(request("evil.test", method=method), WALL_SECONDS)
    assert refusal is not None
    assert refusal.status == 405
    assert dict(refusal.headers) == {"allow": "GET, HEAD"}


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "localhost:8787", "LOCALHOST:1", "LocalHost", "127.0.0.1", "127.0.0.1:8787",
        "[::1]", "[::1]:8787", "[0:0:0:0:0:0:0:1]:8787", "localhost:",
    ],
)  # fmt: skip
def test_this_machine_is_called_by_its_loopback_names(host: str) -> None:
    assert status(LOCAL, request(host)) == 200


@pytest.mark.parametrize(
    "host",
    [
        None, "", " ", ":", ":8787", "evil.test", "evil.test:8787", "localhost.evil.test",
        "localhost@evil.test", "evil.test:localhost", "localhost:evil", "localhost:80:80",
        "127.0.0.1.evil.test", "127.0.0.2", "127.1", "2130706433", "0.0.0.0:8787", "::1",
        "::1:8787", "[::1", "::1]", "localhost]", "[localhost]", "[::1]x",
        "[::1]:x", "[::2]", "[::]", "localhost.", "localhost, evil.test", "localhost/", "*",
        "l\u00f6calhost", "\uff4cocalhost", "localhost\u200b", "localhost\t",
    ],
)  # fmt: skip
def test_any_other_host_is_misdirected(host: str | None) -> None:
    """A foreign page that points its own name to this machine is not answered."""
    assert status(LOCAL, request(host)) == 421
    # Nor does a right token help: a browser may hold a cookie, or a header, for that name.
    assert status(SECRET, request(host, authorization=f"Bearer {TOKEN}")) == 421


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("192.0.2.7:8787", "192.0.2.7:8787"),
        ("recorder.lan:8787", "Recorder.LAN:8787"),
        ("RECORDER:8787", "recorder"),
        ("[2001:DB8::1]:8787", "[2001:db8::1]:8787"),
        ("[2001:db8::1]:8787", "[2001:0DB8:0:0:0:0:0:1]:8787"),
        ("127.0.0.9:8787", "127.0.0.9"),
    ],
)
def test_a_server_is_called_by_its_own_address_however_it_is_spelt(address: str, host: str) -> None:
    access = Access.to(address, (), None)
    assert status(access, request(host)) == 200
    assert status(access, request("localhost")) == 200
    assert status(access, request("evil.test")) == 421


@pytest.mark.parametrize("address", ["0.0.0.0:8787", "[::]:8787"])
def test_the_address_of_every_interface_is_no_name(address: str) -> None:
    access = Access.to(address, ("recorder", "[2001:DB8::2]"), None)
    host = address.rpartition(":")[0]
    assert status(access, request(host)) == 421
    assert status(access, request("192.0.2.7:8787")) == 421
    assert status(access, request("Recorder:8787")) == 200
    assert status(access, request("[2001:db8::2]:8787")) == 200


@given(st.text())
def test_no_host_but_the_known_ones_passes(host: str) -> None:
    name = host.lower().rpartition(":")[0] or host.lower()
    if {name, host.lower()} & {"localhost", "127.0.0.1"} or host.startswith("["):
        return
    assert status(LOCAL, request(host)) == 421


@pytest.mark.parametrize(
    "shown", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER  {TOKEN} ", f"Bearer \t{TOKEN}"]
)
def test_the_right_token_passes(shown: str) -> None:
    assert status(SECRET, request(authorization=shown)) == 200


@pytest.mark.parametrize(
    "shown",
    [
        "", "Bearer", "Bearer ", TOKEN, f"Basic {TOKEN}", f"Bearer{TOKEN}", f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x", f"Bearer {TOKEN} {TOKEN}", f"Bearer {TOKEN.upper()}", "Bearer None",
        f"Token {TOKEN}", f'Bearer "{TOKEN}"', "Bearer \u00e9\u00ff", "B\u00e9arer x",
    ],
)  # fmt: skip
def test_any_other_token_is_refused_with_a_challenge(shown: str) -> None:
    refusal = SECRET.refusal(request(authorization=shown), WALL_SECONDS)
    assert refusal is not None
    assert refusal.status == 401
    assert dict(refusal.headers)["www-authenticate"].startswith("Bearer")
    assert TOKEN.encode() not in refusal.body
    assert status(SECRET, request()) == 401


def test_a_token_in_the_query_or_a_cookie_is_no_token() -> None:
    """Queries stand in logs and histories."""
    asked = Request(method="GET", target=f"/metrics?token={TOKEN}", headers={"host": "localhost"})
    assert status(SECRET, asked) == 401
    assert status(SECRET, request(cookie=f"token={TOKEN}")) == 401


@given(st.text())
def test_only_the_token_passes(shown: str) -> None:
    if shown.strip() != TOKEN:
        assert status(SECRET, request(authorization=f"Bearer {shown}")) == 401


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert status(SECRET, request(authorization="Bearer wrong")) == 401
    assert status(SECRET, request(authorization=f"Basic {TOKEN}")) == 401
    assert status(SECRET, request(authorization=f"Bearer {TOKEN}")) == 200
    assert compared == [(one, TOKEN.encode()) for one in (b"wrong", TOKEN.encode(), TOKEN.encode())]


def test_the_token_is_in_no_repr() -> None:
    assert TOKEN not in repr(SECRET)
