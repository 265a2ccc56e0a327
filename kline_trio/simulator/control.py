"""Parse what clients send: the path of the handshake and the requests after it.

Sources: Binance spot docs, web-socket-streams.md ("Live Subscribing/Unsubscribing to streams",
"Error Messages"); the texts of the quoted real error frames; USD-M "Important WebSocket Change
Notice" of 2026-03 for the routed paths.
"""

import re
from urllib.parse import parse_qs, unquote, urlsplit

import attrs
import msgspec

__all__ = ["Request", "Route", "parse_request", "parse_target"]

_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_STREAM = re.compile(r"![^\s@/]+(@[^\s@/]+)*|[^\s@/!]+(@[^\s@/]+)+")
_TEXT_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")
"""Documented as alphanumeric; the official Python SDK sends UUIDs with hyphens."""
_LONGEST_TARGET = 8_000
"""Longer URLs fail (unicorn-binance-websocket-api issues 17, 19 and 38, measured 2019)."""


@attrs.frozen(kw_only=True)
class Route:
    """The parsed path of a WebSocket handshake."""

    is_combined: bool
    carries_klines: bool
    """False on USD-M paths that acknowledge kline streams and never feed them."""
    streams: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Request:
    """One parsed request, or the error that answers it."""

    request_id: int | str | None = None
    method: str = ""
    streams: tuple[str, ...] = ()
    combined: bool = False
    error: tuple[int, str] | None = None


def parse_target(trade_type: str, target: str) -> Route | int:
    """Return the route of a request target, or the HTTP status that refuses it."""
    if len(target) > _LONGEST_TARGET:
        return 414
    try:
        parts = urlsplit(target)
    except ValueError:
        return 400
    path, carries_klines = parts.path, trade_type != "usdt_futures"
    if trade_type == "usdt_futures":
        for prefix in ("/market", "/public"):
            if path.startswith(f"{prefix}/"):
                path, carries_klines = path.removeprefix(prefix), prefix == "/market"
                break
    if path in ("/stream", "/stream/"):
        is_combined, names = True, parse_qs(parts.query).get("streams", [""])[0]
    elif path == "/ws" or path.startswith("/ws/"):
        is_combined, names = False, unquote(path.removeprefix("/ws").strip("/"))
    else:
        return 404
    streams = tuple(name for name in names.split("/") if name)
    if not all(_STREAM.fullmatch(stream) for stream in streams):
        return 400
    return Route(is_combined=is_combined, carries_klines=carries_klines, streams=streams)


def parse_request(text: str, *, unsigned_id: bool) -> Request:
    """Parse one text frame of a client; a bad one gives a request with an error.

    Args:
        text: What the client sent.
        unsigned_id: Whether the market takes no negative ids (the futures docs say so).
    """
    try:
        raw = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return Request(error=(3, "Invalid JSON: expected value at line 1 column 1"))
    if not isinstance(raw, dict) or "method" not in raw:
        return Request(error=(2, "Invalid request: missing field `method`"))
    request_id = raw.get("id")
    if not _id_fits(request_id, unsigned_id=unsigned_id):
        kind = "an unsigned integer" if unsigned_id else "a 64-bit integer, a string or null"
        return Request(error=(2, f"Invalid request: request ID must be {kind}"))
    method, params = raw["method"], raw.get("params", [])
    if method not in _METHODS:
        known = ", ".join(f"`{name}`" for name in _METHODS)
        message = f"Invalid request: unknown variant `{method}`, expected one of {known}"
        return Request(request_id=request_id, error=(2, message))
    if not isinstance(params, list):
        return Request(request_id=request_id, error=(2, "Invalid request: params must be a list"))
    if method in ("SUBSCRIBE", "UNSUBSCRIBE"):
        if all(isinstance(name, str) and _STREAM.fullmatch(name) for name in params):
            return Request(request_id=request_id, method=method, streams=tuple(params))
        return Request(request_id=request_id, error=(2, "Invalid request: invalid stream"))
    return _property_request(request_id, method, params)


def _property_request(request_id: int | str | None, method: str, params: list[object]) -> Request:
    error: tuple[int, str] | None = None
    allowed = {"LIST_SUBSCRIPTIONS": 0, "GET_PROPERTY": 1, "SET_PROPERTY": 2}[method]
    if len(params) > allowed:
        error = 2, "Invalid request: too many parameters"
    elif allowed and not (params and isinstance(params[0], str)):
        error = 2, "Invalid request: property name must be a string"
    elif allowed and params[0] != "combined":
        error = 0, "Unknown property"
    elif allowed == 2 and not (len(params) == 2 and isinstance(params[1], bool)):
        error = 1, "Invalid value type: expected Boolean"
    combined = bool(params[-1]) if params else False
    return Request(request_id=request_id, method=method, combined=combined, error=error)


def _id_fits(value: object, *, unsigned_id: bool) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return (0 if unsigned_id else -(2**63)) <= value < 2**63
    return value is None or (isinstance(value, str) and bool(_TEXT_ID.fullmatch(value)))
