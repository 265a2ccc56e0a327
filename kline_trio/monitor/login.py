"""The login of a browser: a form for the token, and a cookie that stands for it.

Programs show the token itself in each request. The server keeps nothing of a login.
"""

import base64
import hashlib
import html
import logging
from collections import deque
from collections.abc import Callable

import attrs
import trio

from kline_trio.monitor.access import COOKIE_SECONDS, Access, refused
from kline_trio.monitor.http_message import Request, Response, fields_of

logger = logging.getLogger(__name__)

_PAUSE_SECONDS = 1.0
"""Before a wrong token is answered."""
_MOST_WRONG, _WINDOW_SECONDS = 10, 60.0
"""More wrong tokens in this time, and for its rest no token is looked at."""
_WRONG = "This is not the token."
_EMPTY = "Enter the token."
_TOO_MANY = "There were too many wrong tokens. Wait a minute, then try again."
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center;
  background: light-dark(#f6f7f9, #14171c); color: light-dark(#1b1f24, #e4e7eb); }
main { width: min(22rem, calc(100vw - 3rem)); }
h1 { font-size: 1.25rem; margin: 0 0 1rem; }
label { display: block; margin-bottom: .25rem; }
input, button { font: inherit; box-sizing: border-box; width: 100%; padding: .5rem .75rem;
  border-radius: .375rem; border: 1px solid light-dark(#80868f, #7b828c); }
input { background: light-dark(#fff, #1d2127); color: inherit; }
button { margin-top: .75rem; border-color: transparent; cursor: pointer;
  background: light-dark(#1f5fa8, #8fc1f5); color: light-dark(#fff, #10141a); }
:focus-visible { outline: 3px solid light-dark(#1f5fa8, #8fc1f5); outline-offset: 2px; }
p { margin: 0 0 1rem; }
[role=alert] { color: light-dark(#a3240f, #ff9e8a); }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src 'sha256-{_STYLE_HASH}'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = (
    ("content-security-policy", _POLICY),
    # With no-referrer a form is sent with `Origin: null`, as a foreign page can send one.
    ("referrer-policy", "same-origin"),
)
_FORM = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in - kline_trio</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>kline_trio</h1>
{problem}<form method="post" action="./login{query}">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Log in</button>
</form>
</main>
</body>
</html>
"""


@attrs.define(eq=False)
class Login:
    """Lets browsers in that know the token."""

    access: Access
    root_path: str
    """The cookie is for the paths below it."""
    wall_clock: Callable[[], float]
    is_secure: bool = False
    """Whether the server speaks TLS: then the cookie must never be sent without."""
    _wrong: deque[float] = attrs.field(init=False, factory=lambda: deque(maxlen=_MOST_WRONG))
    """When the last wrong tokens came, by Trio's clock."""

    async def answer(self, request: Request, path: str) -> Response | None:
        """Return the answer to a request for the login or the logout; None for another path.

        Args:
          request: with any method.
          path: its path without the root path.
        """
        if path not in ("/login", "/logout"):
            return None
        if (misdirected := self.access.misdirection(request)) is not None:
            return misdirected
        if path == "/login" and request.method in ("GET", "HEAD"):
            return _to_the_page(request)
        if request.method != "POST":
            return refused(405, "only POST is answered", ("allow", "POST"))
        if not self.access.is_own_origin(request):
            return refused(403, "this request came from a page of another site")
        if path == "/logout":
            return _to_the_page(request, self._cookie("", 0))
        return await self._log_in(request)

    def page(self, request: Request) -> Response:
        """Return the form, as the answer to a request for the page."""
        return _form(request, "")

    async def _log_in(self, request: Request) -> Response:
        if request.has_unread_body:
            return refused(413, "a token is shorter")
        try:
            [shown] = fields_of(request.body.decode("ascii")).get("token", [""])
        except ValueError:
            return refused(400, "a form with one field, token, is wanted")
        if not shown.strip():
            return _form(request, _EMPTY)
        if self._is_closed():
            return attrs.evolve(_form(request, _TOO_MANY), status=429).with_headers(
                ("retry-after", f"{_WINDOW_SECONDS:.0f}")
            )
        if self.access.is_token(shown.strip()):
            value = self.access.cookie(self.wall_clock())
            return _to_the_page(request, self._cookie(value, COOKIE_SECONDS))
        self._wrong.append(trio.current_time())
        logger.warning("monitor: login: a wrong token")
        await trio.sleep(_PAUSE_SECONDS)
        return _form(request, _WRONG)

    def _is_closed(self) -> bool:
        is_full = len(self._wrong) == _MOST_WRONG
        return is_full and trio.current_time() < self._wrong[0] + _WINDOW_SECONDS

    def _cookie(self, value: str, seconds: int) -> tuple[str, str]:
        parts = [f"{self.access.cookie_name}={value}", f"Path={self.root_path}/"]
        parts += [f"Max-Age={seconds}", "HttpOnly", "SameSite=Strict"]
        return ("set-cookie", "; ".join([*parts, "Secure"] if self.is_secure else parts))


def _to_the_page(request: Request, *headers: tuple[str, str]) -> Response:
    """Return a redirection to the view that the query names."""
    return Response(status=303, headers=(("location", f"./{_query_of(request)}"), *headers))


def _form(request: Request, problem: str) -> Response:
    said = f'<p role="alert">{html.escape(problem)}</p>\n' if problem else ""
    text = _FORM.format(style=_STYLE, problem=said, query=html.escape(_query_of(request)))
    return Response(
        status=401,
        body=text.encode(),
        content_type="text/html; charset=utf-8",
        headers=(*_HEADERS, ("www-authenticate", 'Bearer realm="kline_trio"')),
    )


def _query_of(request: Request) -> str:
    """Return the query with its question mark: which view was asked for."""
    _, mark, query = request.target.partition("?")
    return mark + query if query else ""
