"""A tiny S3 server in memory. It honours conditional puts, or is careless and ignores them.

The careful one is fast enough for thousands of publications. The careless one is what some servers
of the wild are: they answer 200 to a put with `If-None-Match`, and overwrite.
"""

import hashlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import attrs

__all__ = ["Answered", "MemoryS3"]

_XML = '<?xml version="1.0" encoding="UTF-8"?>'


@attrs.frozen
class _Object:
    content: bytes
    etag: str
    modified: float

    @classmethod
    def of(cls, content: bytes) -> "_Object":
        return cls(content, f'"{hashlib.md5(content).hexdigest()}"', time())


@attrs.frozen
class Answered:
    """A request that was answered."""

    method: str
    target: str
    """The path with the query, as it came."""
    size: int
    """Of the answer's body, in bytes."""

    @property
    def is_list(self) -> bool:
        """Whether it asked for names."""
        return "list-type=" in self.target

    @property
    def is_delete(self) -> bool:
        """Whether it removed objects by their names."""
        return self.method == "POST" and self.target.endswith(("?delete", "?delete="))


@attrs.define(eq=False)
class MemoryS3:
    """The server's content and behaviour. `running` serves it; credentials are not looked at."""

    honours_conditions: bool = True
    is_full: bool = False
    """Whether each put is refused as by a full disk."""
    objects: dict[str, _Object] = attrs.field(init=False, factory=dict)
    """By bucket and key, as `bucket/key`. Each bucket is there."""
    uploads: dict[str, dict[int, bytes]] = attrs.field(init=False, factory=dict)
    answered: list[Answered] = attrs.field(init=False, factory=list)
    """All requests so far, for who counts them."""
    lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve in threads of this process until the end of the body; give the endpoint."""
        memory = self

        class Handler(_Handler):
            server_memory = memory

        server = _Server(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=[0.05], daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def add(self, key: str, content: bytes) -> None:
        """Hold an object, as `bucket/key`."""
        self.objects[key] = _Object.of(content)

    def refuses(self, key: str, if_none_match: str | None, if_match: str | None) -> bool:
        """Return whether the conditions of a put are not met. Call it with the lock."""
        if not self.honours_conditions:
            return False
        there = self.objects.get(key)
        if if_none_match == "*" and there is not None:
            return True
        return if_match is not None and (there is None or there.etag != if_match)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """End a connection that broke, in silence; each other error is one of the tests."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65_536
    server_memory: MemoryS3

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Keep the output of the tests free of requests."""

    def handle_expect_100(self) -> bool:
        """Answer 100 at once; the client waits for it."""
        went_on = super().handle_expect_100()
        self.wfile.flush()
        return went_on

    def do_GET(self) -> None:
        key, query = self._target()
        if "/" not in key or "list-type" in query:
            self._list(key.partition("/")[0], query)
        else:
            self._get(key)

    do_HEAD = do_GET  # noqa: N815 - as http.server wants it

    def do_PUT(self) -> None:
        key, query = self._target()
        content = self._body()
        memory = self.server_memory
        if "/" not in key:
            self._answer(200)
        elif memory.is_full:
            self._refuse(507, "InsufficientStorage", "no space left on the device")
        elif "uploadId" in query:
            part = int(query["partNumber"][0])
            memory.uploads[query["uploadId"][0]][part] = content
            self._answer(200, headers={"ETag": _Object.of(content).etag})
        else:
            self._put(key, content)

    def do_POST(self) -> None:
        key, query = self._target()
        content = self._body()
        memory = self.server_memory
        if "delete" in query:
            bucket = key.partition("/")[0]
            names = [
                one.text or ""
                for one in ET.fromstring(content).iter()
                if one.tag.rpartition("}")[2] == "Key"
            ]
            with memory.lock:
                for name in names:
                    memory.objects.pop(f"{bucket}/{name}", None)
            gone = "".join(f"<Deleted><Key>{escape(name)}</Key></Deleted>" for name in names)
            self._answer(200, f"{_XML}<DeleteResult>{gone}</DeleteResult>".encode())
        elif "uploads" in query:
            upload = str(len(memory.uploads) + 1)
            memory.uploads[upload] = {}
            text = f"<UploadId>{upload}</UploadId>"
            xml = f"{_XML}<InitiateMultipartUploadResult>{text}</InitiateMultipartUploadResult>"
            self._answer(200, xml.encode())
        else:
            parts = memory.uploads.pop(query["uploadId"][0], {})
            self._put(key, b"".join(parts[number] for number in sorted(parts)), is_multipart=True)

    def do_DELETE(self) -> None:
        key, query = self._target()
        with self.server_memory.lock:
            if "uploadId" in query:
                self.server_memory.uploads.pop(query["uploadId"][0], None)
            else:
                self.server_memory.objects.pop(key, None)
        self._answer(204)

    def _target(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        return unquote(parts.path).strip("/"), parse_qs(parts.query, keep_blank_values=True)

    def _body(self) -> bytes:
        size = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(size)
        if len(content) < size:
            raise ConnectionError("the upload is cut")
        return content

    def _put(self, key: str, content: bytes, *, is_multipart: bool = False) -> None:
        made = _Object.of(content)
        conditions = self.headers.get("If-None-Match"), self.headers.get("If-Match")
        with self.server_memory.lock:
            is_refused = self.server_memory.refuses(key, *conditions)
            if not is_refused:
                self.server_memory.objects[key] = made
        if is_refused:
            self._refuse(412, "PreconditionFailed", "a condition of the put is not met")
        elif is_multipart:
            tag = f"<ETag>{escape(made.etag)}</ETag>"
            xml = f"{_XML}<CompleteMultipartUploadResult>{tag}</CompleteMultipartUploadResult>"
            self._answer(200, xml.encode())
        else:
            self._answer(200, headers={"ETag": made.etag})

    def _get(self, key: str) -> None:
        found = self.server_memory.objects.get(key)
        if found is None:
            self._refuse(404, "NoSuchKey", "there is no such key")
            return
        headers = {
            "ETag": found.etag,
            "Last-Modified": formatdate(found.modified, usegmt=True),
            "Accept-Ranges": "bytes",
        }
        content, size = found.content, len(found.content)
        wanted = self.headers.get("Range")
        if wanted is None:
            self._answer(200, content, headers)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        low = int(first) if first else max(0, size - int(last))
        high = min(size, int(last) + 1) if first and last else size
        if low >= high:
            self._refuse(416, "InvalidRange", "the range is not in the object")
            return
        headers["Content-Range"] = f"bytes {low}-{high - 1}/{size}"
        self._answer(206, content[low:high], headers)

    def _list(self, bucket: str, query: dict[str, list[str]]) -> None:
        def one(name: str, default: str = "") -> str:
            return query.get(name, [default])[0]

        prefix, delimiter = one("prefix"), one("delimiter")
        after = one("continuation-token") or one("start-after")
        most = int(one("max-keys", "1000"))
        with self.server_memory.lock:
            found = {
                name.removeprefix(f"{bucket}/"): value
                for name, value in self.server_memory.objects.items()
                if name.startswith(f"{bucket}/{prefix}")
            }
        shown: dict[str, str] = {}
        for name in sorted(found):
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                folder = prefix + rest.partition(delimiter)[0] + delimiter
                text = f"<Prefix>{escape(folder)}</Prefix>"
                shown[folder] = f"<CommonPrefixes>{text}</CommonPrefixes>"
            else:
                value = found[name]
                shown[name] = (
                    f"<Contents><Key>{escape(name)}</Key><Size>{len(value.content)}</Size>"
                    f"<LastModified>{_iso(value.modified)}</LastModified>"
                    f"<ETag>{escape(value.etag)}</ETag></Contents>"
                )
        names = [name for name in sorted(shown) if name > after]
        page = names[:most]
        more = (
            f"<IsTruncated>true</IsTruncated><NextContinuationToken>{escape(page[-1])}"
            "</NextContinuationToken>"
            if len(names) > most
            else "<IsTruncated>false</IsTruncated>"
        )
        text = "".join(shown[name] for name in page)
        xml = (
            f"{_XML}<ListBucketResult><Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix>"
            f"<KeyCount>{len(page)}</KeyCount><MaxKeys>{most}</MaxKeys>{more}{text}"
            "</ListBucketResult>"
        )
        self._answer(200, xml.encode())

    def _refuse(self, status: int, code: str, message: str) -> None:
        xml = f"{_XML}<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        self._answer(status, xml.encode())

    def _answer(
        self, status: int, content: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.server_memory.answered.append(Answered(self.command, self.path, len(content)))
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()


def _iso(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%S.000Z}"
