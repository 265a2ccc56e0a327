"""The login of a browser: the form, the cookie, and those who guess."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser

import attrs
import pytest
import trio
import trio.testing

from kline_trio.monitor.access import COOKIE_SECONDS, Access
from kline_trio.monitor.endpoints import Endpoints
from kline_trio.monitor.http_message import Request, Response
from kline_trio.monitor.login import Login
from tests.monitor.http import WALL_SECONDS, Answer, Client, joined, server_of

TOKEN = "a-token+of%32&characters=or-more"
SENT = b"token=a-token%2Bof%2532%26characters%3Dor-more"
"""As a browser encodes it."""
FORM = ("Content-Type: application/x-www-form-urlencoded", "Origin: http://localhost")
BROWSER = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"


@attrs.frozen
class OnePage:
    """The page's files, of which there is one."""

    async def get(self, path: str) -> Response | None:
        await trio.lowlevel.checkpoint()
        return Response(body=b"the page") if path == "/" else None


@attrs.define
class Clock:
    """A wall clock that a test sets."""

    now: float = WALL_SECONDS

    def __call__(self) -> float:
        return self.now


def endpoints_of(
    *, token: str = TOKEN, root_path: str = "", is_secure: bool = False, clock: Clock | None = None
) -> Endpoints:
    clock = clock or Clock()
    access = Access.to("127.0.0.1:8787", ("recorder.example",), token)
    return Endpoints(
        None,
        access,
        root_path,
        assets=OnePage(),  # type: ignore[arg-type]
        login=Login(access, root_path, clock, is_secure),
        wall_clock=clock,
    )


@asynccontextmanager
async def browsing(endpoints: Endpoints | None = None) -> AsyncIterator[Client]:
    async with joined(server_of((endpoints or endpoints_of()).handle)) as client:
        yield client


def cookie_of(answer: Answer) -> str:
    return answer.headers["set-cookie"].partition(";")[0]


async def log_in(client: Client, target: str = "/login") -> str:
    answer = await client.post(target, SENT, *FORM)
    assert answer.status == 303
    return f"Cookie: other=1; {cookie_of(answer)}"


class Page(HTMLParser):
    """The elements of a page: each tag with its attributes, and the texts."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(body.decode())

    def handle_starttag(self, tag: str, found: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(found)))

    def handle_data(self, text: str) -> None:
        self.texts.append(text)

    def only(self, tag: str) -> dict[str, str | None]:
        [found] = [one for name, one in self.elements if name == tag]
        return found


# The form


async def test_a_browser_without_a_cookie_gets_the_form() -> None:
    async with browsing() as client:
        answer = await client.ask("GET", "/", BROWSER)
        assert answer.status == 401
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        page = Page(answer.body)
        assert page.only("form") == {"method": "post", "action": "./login"}
        field = page.only("input")
        assert (field["name"], field["type"]) == ("token", "password")
        assert any(tag == "label" and given["for"] == field["id"] for tag, given in page.elements)
        assert not [tag for tag, _ in page.elements if tag == "script"]
        assert (await client.ask("HEAD", "/", BROWSER)).headers == answer.headers


async def test_programs_and_other_paths_get_no_form() -> None:
    async with browsing() as client:
        for target, accept in (("/", "Accept: */*"), ("/metrics", BROWSER), ("/x.js", BROWSER)):
            answer = await client.ask("GET", target, accept)
            assert answer.status == 401
            assert answer.headers["content-type"].startswith("text/plain")
            assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_the_policy_of_the_form_names_its_style_and_allows_nothing_else() -> None:
    async with browsing() as client:
        answer = await client.ask("GET", "/", BROWSER)
    policy = answer.headers["content-security-policy"]
    style = re.findall(rb"<style>(.*?)</style>", answer.body, re.DOTALL)
    [digest] = [base64.b64encode(hashlib.sha256(one).digest()).decode() for one in style]
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    )
    assert b"style=" not in answer.body
    # With no-referrer, Chromium sends `Origin: null` with the form.
    assert answer.headers["referrer-policy"] == "same-origin"


async def test_the_view_that_was_asked_for_outlives_the_login() -> None:
    async with browsing() as client:
        answer = await client.ask("GET", "/?series=spot%2FBTCUSDT%2F1m&from=1", BROWSER)
        action = Page(answer.body).only("form")["action"]
        assert action == "./login?series=spot%2FBTCUSDT%2F1m&from=1"
        wrong = await client.post(action.removeprefix("."), b"token=x", *FORM)
        assert Page(wrong.body).only("form")["action"] == action
        right = await client.post(action.removeprefix("."), SENT, *FORM)
        assert right.headers["location"] == "./?series=spot%2FBTCUSDT%2F1m&from=1"


@pytest.mark.parametrize("query", ['"><script>alert(1)</script>', "'&quot;<b>", "//evil.test/"])
async def test_a_query_is_never_markup_nor_another_place(query: str) -> None:
    async with browsing() as client:
        answer = await client.ask("GET", f"/?{query}", BROWSER)
        page = Page(answer.body)
        assert page.only("form")["action"] == f"./login?{query}"
        assert {tag for tag, _ in page.elements} == {
            "html", "head", "meta", "title", "style", "body", "main", "h1", "form", "label",
            "input", "button",
        }  # fmt: skip
        right = await client.post(f"/login?{query}", SENT, *FORM)
        assert right.headers["location"] == f"./?{query}"


# The cookie


async def test_the_right_token_gives_a_cookie_that_reads_all() -> None:
    async with browsing() as client:
        answer = await client.post("/login", SENT, *FORM)
        assert (answer.status, answer.headers["location"]) == (303, "./")
        name, *parts = answer.headers["set-cookie"].split("; ")
        assert re.fullmatch(r"kline_trio_[0-9a-f]{8}=[0-9]+-[0-9a-f]{64}", name)
        assert parts == ["Path=/", f"Max-Age={COOKIE_SECONDS}", "HttpOnly", "SameSite=Strict"]
        assert TOKEN not in str(answer)
        cookie = f"Cookie: {name}"
        assert (await client.ask("GET", "/", cookie)).body == b"the page"
        assert (await client.ask("GET", "/missing", cookie)).status == 404
        # The token itself is still good, and the cookie is for reading alone.
        bearer = f"Authorization: Bearer {TOKEN}"
        assert (await client.ask("GET", "/", bearer)).body == b"the page"
        assert (await client.ask("DELETE", "/", cookie)).status == 405


async def test_over_tls_and_below_a_path_the_cookie_stays_there() -> None:
    async with browsing(endpoints_of(root_path="/recorder", is_secure=True)) as client:
        for target in ("/recorder/login", "/login"):
            answer = await client.post(target, SENT, *FORM)
            parts = answer.headers["set-cookie"].split("; ")
            assert "Path=/recorder/" in parts
            assert parts[-1] == "Secure"
        moved = await client.ask("GET", "/recorder?q=1", BROWSER)
        assert (moved.status, moved.headers["location"]) == (308, "/recorder/?q=1")


async def test_a_cookie_ends_after_thirty_days_and_with_its_token() -> None:
    clock = Clock()
    async with browsing(endpoints_of(clock=clock)) as client:
        cookie = await log_in(client)
        clock.now += COOKIE_SECONDS - 1
        assert (await client.ask("GET", "/", cookie)).status == 200
        clock.now += 1
        assert (await client.ask("GET", "/", cookie)).status == 401
    clock.now = WALL_SECONDS
    async with browsing(endpoints_of(clock=clock, token=TOKEN[::-1])) as client:
        assert (await client.ask("GET", "/", cookie)).status == 401


async def test_a_cookie_that_was_changed_is_none() -> None:
    async with browsing() as client:
        cookie = await log_in(client)
        name, _, value = cookie.rpartition("=")
        expiry, _, signature = value.partition("-")
        for changed in (
            f"{int(expiry) + 1}-{signature}", f"0{expiry}-{signature}", f"{expiry}-", "-", "",
            f"{expiry}-{signature[:-1]}", f"{expiry}-{signature}0", f"{expiry}-{signature.upper()}",
            f"-{signature}", f"\xb2{expiry}-{signature}", f'"{value}"', f"{value} x", TOKEN,
        ):  # fmt: skip
            answer = await client.ask("GET", "/", f"{name}={changed}")
            assert answer.status == 401, changed
        assert (await client.ask("GET", "/", f"Cookie: kline_trio={value}")).status == 401
        # Of several with its name, the good one counts.
        both = f"{name}=x; {name.rpartition(' ')[2]}={value}"
        assert (await client.ask("GET", "/", both)).status == 200


async def test_servers_of_one_host_do_not_end_each_others_logins() -> None:
    """A browser sends cookies to every port of a host."""
    async with browsing() as one, browsing(endpoints_of(token="another-token-of-16")) as other:
        first = await log_in(one)
        answer = await other.post("/login", b"token=another-token-of-16", *FORM)
        both = f"{first}; {cookie_of(answer)}"
        for client in (one, other):
            assert (await client.ask("GET", "/", both)).status == 200
        assert len({part.partition("=")[0] for part in both.split("; ")}) == 3


async def test_the_logout_takes_the_cookie_away() -> None:
    async with browsing() as client:
        cookie = await log_in(client)
        answer = await client.post("/logout", b"", cookie, FORM[1])
        assert (answer.status, answer.headers["location"]) == (303, "./")
        given = answer.headers["set-cookie"]
        assert given.startswith(f"{cookie.rpartition('=')[0].rpartition(' ')[2]}=; ")
        assert "Max-Age=0; " in given


# Those who guess, and other pages


async def test_a_wrong_token_is_told_after_a_pause(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with browsing() as client:
        for wrong in (b"token=x", b"token=" + TOKEN.encode(), b"token=%00x"):
            began = trio.current_time()
            answer = await client.post("/login", wrong, *FORM)
            assert answer.status == 401
            assert "set-cookie" not in answer.headers
            page = Page(answer.body)
            assert page.only("p") == {"role": "alert"}
            assert "This is not the token." in page.texts
            assert trio.current_time() - began == 1
    assert caplog.messages == ["monitor: login: a wrong token"] * 3
    assert TOKEN not in caplog.text


async def test_no_token_at_all_costs_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with browsing() as client:
        for _ in range(20):
            for body in (b"", b"token=", b"token=+%20", b"other=1"):
                answer = await client.post("/login", body, *FORM)
                assert "Enter the token." in Page(answer.body).texts
        await log_in(client)
    assert trio.current_time() == 0


async def test_after_ten_wrong_tokens_none_is_looked_at_for_a_minute(
    autojump_clock: trio.testing.MockClock,
) -> None:
    endpoints = endpoints_of()
    async with browsing(endpoints) as client:
        cookie = await log_in(client)
        statuses = []

        async def guess(number: int) -> None:
            async with browsing(endpoints) as guesser:
                answer = await guesser.post("/login", b"token=%d" % number, *FORM)
                statuses.append(answer.status)

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(guess, number)
        assert sorted(statuses) == [401] * 10 + [429] * 50
        assert trio.current_time() - began == 1
        # The right one is not looked at either: else a guess could be told from the answer.
        right = await client.post("/login", SENT, *FORM)
        assert right.status == 429
        assert right.headers["retry-after"] == "60"
        assert "too many wrong tokens" in right.body.decode()
        # Who has logged in before, and programs, go on.
        assert (await client.ask("GET", "/", cookie)).status == 200
        assert (await client.ask("GET", "/", f"Authorization: Bearer {TOKEN}")).status == 200
        await trio.sleep(60)
    async with browsing(endpoints) as client:
        await log_in(client)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((), 303),
        (("Origin: http://localhost",), 303),
        (("Origin: HTTP://LOCALHOST",), 303),
        (("Origin: https://recorder.example",), 303),
        (("Origin: null", "Sec-Fetch-Site: same-origin"), 303),
        (("Origin: http://localhost", "Sec-Fetch-Site: none"), 303),
        (("Origin: null",), 403),
        (("Origin: ",), 403),
        (("Origin: http://evil.test",), 403),
        (("Origin: http://localhost:3000",), 403),
        (("Origin: http://localhost.evil.test",), 403),
        (("Origin: http://[",), 403),
        (("Origin: http://localhost:x",), 403),
        (("Origin: http://localhost", "Sec-Fetch-Site: cross-site"), 403),
        (("Origin: http://localhost", "Sec-Fetch-Site: same-site"), 403),
    ],
)
@pytest.mark.parametrize("target", ["/login", "/logout"])
async def test_only_pages_of_this_server_may_post(
    target: str, headers: tuple[str, ...], status: int
) -> None:
    async with browsing() as client:
        answer = await client.post(target, SENT, *headers)
        assert answer.status == status
        assert ("set-cookie" in answer.headers) is (status == 303)


async def test_a_name_that_is_not_known_gets_no_form_and_no_cookie() -> None:
    endpoints = endpoints_of()
    for method, target in (
        ("GET", "/"),
        ("GET", "/login"),
        ("POST", "/login"),
        ("POST", "/logout"),
    ):
        headers = {"host": "evil.test", "accept": "text/html"}
        request = Request(method=method, target=target, headers=headers, body=SENT)
        response = await endpoints.handle(request)
        assert response.status == 421
        assert not response.headers


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"token=%zz", 400),
        (b"token=%ff", 400),
        (b"token=\xff", 400),
        (b"token=a&token=b", 400),
        (b"token=" + b"x" * 5_000, 413),
        (b"&" * 4_000, 400),
        (b'{"token": "x"}', 401),
    ],
)
async def test_what_is_no_form_with_a_token_is_refused(
    autojump_clock: trio.testing.MockClock, body: bytes, status: int
) -> None:
    async with browsing() as client:
        assert (await client.post("/login", body, *FORM)).status == status


async def test_other_methods_of_the_login_lead_to_the_page_or_nowhere() -> None:
    async with browsing() as client:
        answer = await client.ask("GET", "/login?series=x")
        assert (answer.status, answer.headers["location"]) == (303, "./?series=x")
        for method, target in (("GET", "/logout"), ("PUT", "/login"), ("DELETE", "/logout")):
            answer = await client.ask(method, target)
            assert (answer.status, answer.headers["allow"]) == (405, "POST")


async def test_without_a_token_there_is_no_login() -> None:
    access = Access.to("127.0.0.1:8787", (), None)
    endpoints = Endpoints(None, access, assets=OnePage())  # type: ignore[arg-type]
    async with browsing(endpoints) as client:
        assert (await client.ask("GET", "/", BROWSER)).body == b"the page"
        assert (await client.ask("GET", "/login", BROWSER)).status == 404
        assert (await client.post("/login", b"token=", *FORM)).status == 405
