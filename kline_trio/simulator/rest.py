"""Requests and answers of the HTTP side, its refusals, and how much each market lets one ask.

Sources: Binance spot docs, rest-api.md ("General endpoints", "LIMITS") and errors.md; bodies of
refusals seen in the field.
"""

import attrs
import msgspec

__all__ = ["WEIGHT_LIMITS", "Request", "Response", "error_response", "json_response"]
__all__ += ["refusal", "weight_pool"]

_JSON = ("content-type", "application/json;charset=UTF-8")
_TITLES = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    414: "Request-URI Too Large",
    503: "Service Unavailable",
}
WEIGHT_LIMITS = {"spot": 6_000, "futures": 2_400}
"""For each pool, in a minute, from one address."""
_USE_STREAMS = "Please use WebSocket Streams for live updates to avoid bans."
"""As in a ban of 2026-08; in 2022 it said "Please use the websocket"."""
_RESTRICTED = (
    "Service unavailable from a restricted location according to 'b. Eligibility' in "
    "https://www.binance.com/en/terms. Please contact customer service if you believe you "
    "received this message in error."
)


@attrs.frozen(kw_only=True)
class Request:
    """One HTTP request, and the moments at which it is answered."""

    method: str = "GET"
    target: str
    """Path and query."""
    trade_type: str
    now_ms: int
    """Exchange time."""
    now_s: float = 0.0
    """Local time, which weights are counted by."""


@attrs.frozen(kw_only=True)
class Response:
    """One HTTP answer."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


def weight_pool(trade_type: str) -> str:
    """Return which used-weight budget a market draws on: futures share one since 2026-06-30."""
    return "spot" if trade_type == "spot" else "futures"


def refusal(status: int, now_ms: int) -> Response:
    """Return a refusal as the real exchange words it; 5xx and 403 are pages, not JSON."""
    if status in (418, 429):
        message = "Too many requests queued."
        if status == 418:
            until_ms = now_ms + 120_000
            message = (
                f"Way too much request weight used; IP banned until {until_ms}. {_USE_STREAMS}"
            )
        response = error_response(status, -1003, message)
        return attrs.evolve(response, headers=(_JSON, ("retry-after", "120")))
    if status == 451:
        return error_response(status, 0, _RESTRICTED)
    title = _TITLES.get(status, "Error")
    body = f"<html>\r\n<head><title>{status} {title}</title></head>\r\n</html>\r\n".encode()
    return Response(status=status, headers=(("content-type", "text/html"),), body=body)


def json_response(value: object, status: int = 200) -> Response:
    """Return an answer in JSON."""
    return Response(status=status, headers=(_JSON,), body=msgspec.json.encode(value))


def error_response(status: int, code: int, message: str) -> Response:
    """Return an error in JSON."""
    return json_response({"code": code, "msg": message}, status)
