"""The files of the page: read from the package once, compressed once, told apart by their ETag."""

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable

import attrs
import trio

from kline_trio.monitor.http_message import Response

_INDEX = "index.html"
_ETAG_DIGITS = 20
_OTHER_TYPE = "application/octet-stream"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".md": "text/plain; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self'",
        "font-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""A worker has the policy that its own script came with, so that all files have the same."""
_HEADERS = (
    ("content-security-policy", PAGE_POLICY),
    # With no-referrer a form would be sent with `Origin: null`, as a foreign page can send one.
    ("referrer-policy", "same-origin"),
)


@attrs.define(eq=False)
class Assets:
    """The files of a folder, each by its path such as `/vendor/uplot.js`."""

    folder: Traversable = attrs.field(
        factory=lambda: files("kline_trio.monitor.page").joinpath("static")
    )
    _reading: trio.Lock = attrs.field(init=False, factory=trio.Lock)
    _found: Mapping[str, Response] | None = attrs.field(init=False, default=None)

    async def get(self, path: str) -> Response | None:
        """Return a file as an answer; None if there is no file of that path.

        The first call reads all files: nobody may ever ask for the page.

        Raises:
          OSError: a file cannot be read; the next call tries again.
        """
        async with self._reading:
            if self._found is None:
                # Abandoned if cancelled: a dead disk must not hold up the recorder's stop.
                self._found = await trio.to_thread.run_sync(
                    _responses, self.folder, abandon_on_cancel=True
                )
        return self._found.get(f"/{_INDEX}" if path == "/" else path)


def _responses(folder: Traversable) -> dict[str, Response]:
    return {path: _response(path, body) for path, body in _files(folder, "/")}


def _files(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    if not folder.is_dir():
        return
    for one in folder.iterdir():
        if one.name.startswith("."):
            continue
        if one.is_dir():
            yield from _files(one, f"{prefix}{one.name}/")
        else:
            yield prefix + one.name, one.read_bytes()


def _response(path: str, body: bytes) -> Response:
    dot = path.rfind(".")
    response = Response(
        body=body,
        content_type=_TYPES.get(path[dot:], _OTHER_TYPE),
        etag=hashlib.sha256(body).hexdigest()[:_ETAG_DIGITS],
        headers=_HEADERS,
    )
    if response.may_be_compressed:
        response = attrs.evolve(response, gzipped=gzip.compress(body, mtime=0))
    return response
