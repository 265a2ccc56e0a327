"""Who may read: the Host header, the method, and the token (pure)."""

import hmac
import re
from collections.abc import Collection
from ipaddress import ip_address

import attrs

from kline_trio.config.monitor import host_name, split_address
from kline_trio.monitor.http_message import Request, Response

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(:[0-9]*)?", re.IGNORECASE)
"""An IPv6 address in brackets, or a name; perhaps a port."""
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@attrs.frozen(kw_only=True)
class Access:
    """Who may read."""

    hosts: frozenset[str]
    """The names, as `host_name` gives them, by which readers may call this server."""
    token: str | None = attrs.field(default=None, repr=False)
    """What readers must show; None: nothing."""

    @classmethod
    def to(cls, address: str, allowed_hosts: Collection[str], token: str | None) -> "Access":
        """Return the access to a server at an address, `host:port`, called by other names too."""
        host, _ = split_address(address)
        names = {*_LOOPBACK_NAMES, *map(host_name, allowed_hosts)}
        if not _is_every_address(host):
            names.add(host_name(host))
        return cls(hosts=frozenset(names), token=token)

    def refusal(self, request: Request) -> Response | None:
        """Return the answer to a request that is refused; None: it may pass.

        A browser that a foreign page has led here shows the foreign name as Host ("DNS
        rebinding"); so an unknown name is refused, also on a loopback address.
        """
        if request.method not in ("GET", "HEAD"):
            return _refused(405, "only GET and HEAD are answered", ("allow", "GET, HEAD"))
        if _called_name(request.headers.get("host", "")) not in self.hosts:
            return _refused(421, "unknown Host: see allowed_hosts under [monitor]")
        if self.token is not None:
            scheme, _, shown = request.headers.get("authorization", "").partition(" ")
            is_right = hmac.compare_digest(shown.strip().encode(), self.token.encode())
            if scheme.lower() != "bearer" or not is_right:
                challenge = ("www-authenticate", 'Bearer realm="kline_trio"')
                return _refused(401, "a token is wanted: Authorization: Bearer ...", challenge)
        return None


def _is_every_address(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _called_name(header: str) -> str | None:
    """Return the name in a header `Host`, without its port; None if the header has no name."""
    found = _HOST.fullmatch(header)
    return None if found is None else host_name(found[1])


def _refused(status: int, text: str, *headers: tuple[str, str]) -> Response:
    return Response(status=status, body=f"{text}\n".encode(), headers=headers)
