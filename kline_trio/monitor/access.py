"""Who may read: the method, the Host header, and the token or a cookie made from it (pure)."""

import hmac
import re
from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

import attrs

from kline_trio.config.monitor import host_name, split_address
from kline_trio.monitor.http_message import Request, Response

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(:[0-9]*)?", re.IGNORECASE)
"""An IPv6 address in brackets, or a name; perhaps a port."""
COOKIE_SECONDS = 30 * 86_400
"""A cookie is good for so long."""
_EXPIRY = re.compile("[0-9]{1,15}", re.ASCII)
_NAME_DIGITS = 8
_OWN_SITES = ("same-origin", "none")
"""What `Sec-Fetch-Site` says of a request of the page, or of the user."""
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@attrs.frozen(kw_only=True)
class Access:
    """Who may read."""

    hosts: frozenset[str]
    """The names, as `host_name` gives them, by which readers may call this server."""
    token: str | None = attrs.field(default=None, repr=False)
    """What readers must show, or a cookie that was made from it; None: nothing."""

    @classmethod
    def to(cls, address: str, allowed_hosts: Collection[str], token: str | None) -> "Access":
        """Return the access to a server at an address, `host:port`, called by other names too."""
        host, _ = split_address(address)
        names = {*_LOOPBACK_NAMES, *map(host_name, allowed_hosts)}
        if not _is_every_address(host):
            names.add(host_name(host))
        return cls(hosts=frozenset(names), token=token)

    def refusal(self, request: Request, now: float) -> Response | None:
        """Return the answer to a request that is refused; None: it may pass.

        Args:
          request: of a reader. It must not want to change anything.
          now: seconds since 1970, for the expiry of cookies.
        """
        if request.method not in ("GET", "HEAD"):
            return refused(405, "only GET and HEAD are answered", ("allow", "GET, HEAD"))
        if (misdirected := self.misdirection(request)) is not None:
            return misdirected
        if self.token is None or self._shows_token(request) or self._shows_cookie(request, now):
            return None
        challenge = ("www-authenticate", 'Bearer realm="kline_trio"')
        return refused(401, "a token is wanted: Authorization: Bearer ...", challenge)

    def misdirection(self, request: Request) -> Response | None:
        """Return the answer to a request by an unknown name; None: the name is known.

        A browser that a foreign page has led here shows the foreign name as Host ("DNS
        rebinding"); so an unknown name is refused, also on a loopback address.
        """
        if _called_name(request.headers.get("host", "")) in self.hosts:
            return None
        return refused(421, "unknown Host: see allowed_hosts under [monitor]")

    def is_own_origin(self, request: Request) -> bool:
        """Return whether a request that changes something was not made by a foreign page."""
        site = request.headers.get("sec-fetch-site")
        if site is not None:
            return site in _OWN_SITES
        origin = request.headers.get("origin")
        if origin is None:
            return True  # no browser
        try:
            found = urlsplit(origin)
            # Behind a proxy with TLS, Host may be another one of our names.
            is_ours = found.port is None and host_name(found.hostname or "") in self.hosts
        except ValueError:
            return False
        return is_ours or found.netloc.lower() == request.headers.get("host", "").lower()

    def is_token(self, shown: str) -> bool:
        """Return whether a text is the token, in a time that does not depend on the text."""
        token = self.token or ""
        is_same = hmac.compare_digest(shown.encode(), token.encode())
        return is_same and bool(token)

    @property
    def cookie_name(self) -> str:
        """The name of the cookie: servers of one host with other tokens have other names."""
        return f"kline_trio_{self._signed('name')[:_NAME_DIGITS]}"

    def cookie(self, now: float) -> str:
        """Return the value of a cookie that passes for `COOKIE_SECONDS`, as the token does.

        It is signed by the token: the server keeps no list, and another token ends all cookies.
        """
        expiry = str(round(now) + COOKIE_SECONDS)
        return f"{expiry}-{self._signed(expiry)}"

    def _signed(self, text: str) -> str:
        assert self.token is not None
        return hmac.new(self.token.encode(), f"cookie {text}".encode(), "sha256").hexdigest()

    def _shows_token(self, request: Request) -> bool:
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        is_right = self.is_token(shown.strip())
        return scheme.lower() == "bearer" and is_right

    def _shows_cookie(self, request: Request, now: float) -> bool:
        for one in request.headers.get("cookie", "").split(";"):
            name, _, value = one.strip().partition("=")
            expiry, _, signature = value.partition("-")
            if name != self.cookie_name or _EXPIRY.fullmatch(expiry) is None:
                continue
            is_ours = hmac.compare_digest(signature.encode(), self._signed(expiry).encode())
            if is_ours and now < int(expiry):
                return True
        return False


def _is_every_address(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _called_name(header: str) -> str | None:
    """Return the name in a header `Host`, without its port; None if the header has no name."""
    found = _HOST.fullmatch(header)
    return None if found is None else host_name(found[1])


def refused(status: int, text: str, *headers: tuple[str, str]) -> Response:
    """Return an answer that says in one line why a request is refused."""
    return Response(status=status, body=f"{text}\n".encode(), headers=headers)
