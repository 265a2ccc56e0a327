"""A request and its answer, as values: query, ETag, compression and headers (pure)."""

import re
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from urllib.parse import parse_qs

import attrs

_MOST_FIELDS = 2_000
"""Of a query; the head that holds it has 16 kB at most."""
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_ETAG = re.compile(r"[!#-~]+", re.ASCII)
_LEAST_COMPRESSED = 1_024
"""A shorter body is sent as it is: most of it is in the first packet anyway."""
_TEXTS = ("text/", "application/json", "application/manifest+json", "image/svg+xml")
_GOOD, _UNCHANGED = 200, 304

SendChunk = Callable[[bytes], Awaitable[None]]
"""Sends a part of a streamed body. If the reader has gone, or reads too slowly, it is cancelled."""
Stream = Callable[[SendChunk], Awaitable[None]]
"""Sends a whole body, part by part."""

SAME_ORIGIN_HEADERS = (
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("content-security-policy", "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"),
)
"""Every answer has these, unless it has its own of that name."""


@attrs.frozen(kw_only=True)
class Request:
    """A request.

    Raises:
      ValueError: the query is not valid UTF-8 in percent-encoding, or has too many fields.
    """

    method: str
    target: str
    """Path and query, as they were sent."""
    headers: Mapping[str, str]
    """Names in lower case; of several with one name, the last."""
    body: bytes = b""
    """Of a POST."""
    has_unread_body: bool = False
    """The body is too long, or the method takes none."""
    query: Mapping[str, list[str]] = attrs.field(init=False, repr=False)
    """The values of each name, decoded, in their order; empty values are kept."""

    @query.default
    def _parsed_query(self) -> Mapping[str, list[str]]:
        return fields_of(self.target.partition("?")[2])

    @property
    def path(self) -> str:
        """The path without the query."""
        return self.target.partition("?")[0]

    @property
    def accepts_gzip(self) -> bool:
        """Whether the reader takes a body that was compressed by gzip."""
        for one in self.headers.get("accept-encoding", "").lower().split(","):
            coding, _, weight = one.replace(" ", "").partition(";")
            if coding == "gzip":
                return re.fullmatch(r"q=0(\.0*)?", weight) is None
        return False


def fields_of(text: str) -> dict[str, list[str]]:
    """Return the fields of a query or of a form's body.

    Raises:
      ValueError: the text is not valid UTF-8 in percent-encoding, or has too many fields.
    """
    if _BAD_ESCAPE.search(text) is not None:
        raise ValueError("a % in a query begins two hexadecimal digits")
    return parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)


@attrs.frozen(kw_only=True)
class Response:
    """An answer."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    """Names in lower case. Each replaces the header of that name that every answer has."""
    etag: str | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.matches_re(_ETAG))
    )
    """Changes with the body; it has no quotes. A request with it in `If-None-Match` gets status
    304."""
    gzipped: bytes | None = attrs.field(default=None, repr=False)
    """The body as gzip, if it was compressed before; else the server compresses it if it helps."""
    stream: Stream | None = None
    """Sends the body, instead of `body`. The server calls it, and ends the connection after it."""

    @property
    def may_be_compressed(self) -> bool:
        """Whether gzip makes the body shorter."""
        is_text = self.content_type.startswith(_TEXTS) and self.stream is None
        is_plain = not any(name == "content-encoding" for name, _ in self.headers)
        return is_text and is_plain and len(self.body) > _LEAST_COMPRESSED

    def with_headers(self, *more: tuple[str, str]) -> "Response":
        """Return the answer with more headers."""
        return attrs.evolve(self, headers=(*self.headers, *more))

    def all_headers(self, now: float) -> list[tuple[str, str]]:
        """Return the headers to send.

        Args:
          now: seconds since 1970, for the header `Date`.
        """
        # Weak: with gzip and without, the bytes differ and the content does not.
        tag = [] if self.etag is None else [("etag", f'W/"{self.etag}"')]
        has_length = self.stream is None and self.status != _UNCHANGED
        length = [("content-length", str(len(self.body)))] if has_length else []
        common = (
            ("date", formatdate(now, usegmt=True)),
            ("content-type", self.content_type),
            *length,
            # A browser keeps what has an ETag, and asks each time whether it is still the same.
            ("cache-control", "no-store" if self.etag is None else "no-cache"),
            *tag,
            *SAME_ORIGIN_HEADERS,
        )
        own = {name for name, _ in self.headers}
        return [*(one for one in common if one[0] not in own), *self.headers]


def is_unchanged(request: Request, response: Response) -> bool:
    """Return whether the reader shows that it has this answer already."""
    is_read = request.method in ("GET", "HEAD")
    if response.etag is None or response.status != _GOOD or not is_read:
        return False
    shown = request.headers.get("if-none-match", "")
    tags = [one.strip().removeprefix("W/") for one in shown.split(",")]
    return f'"{response.etag}"' in tags or shown.strip() == "*"


def unchanged(response: Response) -> Response:
    """Return the answer to a reader that has this one already."""
    return attrs.evolve(response, status=_UNCHANGED, body=b"", gzipped=None, stream=None)


Handler = Callable[[Request], Awaitable[Response]]
