"""An HTTP proxy before an object store that loses answers, cuts bodies and refuses by a plan."""

import enum
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import attrs

__all__ = ["Fault", "LossyProxy", "Plan", "Request", "is_commit", "nth", "seeded"]

_DEADLINE_SECONDS = 60


class Fault(enum.Enum):
    """What happens to one request."""

    LOST_REPLY = "the server does the work; the connection ends without a reply"
    CUT_REPLY = "the server does the work; the connection ends within the reply"
    DONE_BUT_500 = "the server does the work; the proxy answers 500"
    CUT_UPLOAD = "half of the body reaches the server; both connections end"
    NO_UPLOAD = "the connection ends before the server sees anything"
    ANSWER_409 = "the proxy answers 409"
    ANSWER_412 = "the proxy answers 412"
    ANSWER_429 = "the proxy answers 429"
    ANSWER_500 = "the proxy answers 500"
    ANSWER_503 = "the proxy answers 503"
    LATE = "the reply comes late"

    @property
    def status(self) -> int | None:
        """The status that the proxy answers by itself; None: none."""
        *_, last = self.name.split("_")
        return int(last) if last.isdigit() else None

    @property
    def is_done(self) -> bool:
        """Whether the server does the work."""
        return not self.name.startswith(("ANSWER", "CUT_UPLOAD", "NO_UPLOAD"))


@attrs.frozen
class Request:
    """A request that came to the proxy."""

    number: int
    """From 0 on, in the order in which the requests came."""
    method: str
    path: str
    """With the query."""
    fault: Fault | None = None

    def is_like(self, other: "Request") -> bool:
        """Return whether the other one has the same method and path, as a retry has."""
        return (self.method, self.path) == (other.method, other.path)


Plan = Callable[[Request], Fault | None]
"""Called once for each request, from one thread at a time; it may keep a state."""


def no_faults(request: Request) -> None:
    """Let each request pass."""


def every_request(_: Request) -> bool:
    """Count each request."""
    return True


def is_commit(request: Request) -> bool:
    """Return whether a request commits to a Delta table."""
    return request.method == "PUT" and "/_delta_log/" in request.path


def nth(
    number: int, fault: Fault, times: int = 1, among: Callable[[Request], bool] = every_request
) -> Plan:
    """Return a plan: the n-th request has a fault, and so have its next retries.

    Args:
      number: of the request, from 0 on.
      fault: what happens to it.
      times: how often in all. More than 4 outlive the retries of the libraries.
      among: which requests are counted.
    """
    first: list[Request] = []
    left, seen = times, 0

    def plan(request: Request) -> Fault | None:
        nonlocal left, seen
        if among(request):
            if seen == number:
                first.append(request)
            seen += 1
        if left and first and request.is_like(first[0]):
            left -= 1
            return fault
        return None

    return plan


def seeded(seed: int, share: float, faults: Sequence[Fault] = tuple(Fault)) -> Plan:
    """Return a plan: this share of all requests has a fault, each drawn from some."""
    drawn = random.Random(seed)

    def plan(_: Request) -> Fault | None:
        return drawn.choice(faults) if drawn.random() < share else None

    return plan


@attrs.define(eq=False)
class LossyProxy:
    """The proxy. `running` serves it; `plan` may be changed meanwhile."""

    target: str
    """The endpoint of the server, as `http://127.0.0.1:9000`."""
    plan: Plan = no_faults
    late_seconds: float = 0.2
    """The delay of `Fault.LATE`."""
    clock_shift_seconds: float = 0.0
    """By how much the Date of each reply is moved; positive: the server seems to be ahead."""
    requests: list[Request] = attrs.field(init=False, factory=list)
    """All requests so far, in order."""
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve in threads of this process until the end of the body; give the endpoint."""
        proxy = self

        class Handler(_Handler):
            server_proxy = proxy

        server = _Server(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=[0.05], daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    @property
    def faults(self) -> int:
        """How many requests had a fault so far."""
        return sum(one.fault is not None for one in self.requests)

    def start_anew(self, plan: Plan = no_faults) -> None:
        """Forget the requests, count from 0 again, and follow another plan."""
        with self._lock:
            self.requests.clear()
            self.plan = plan

    def noted(self, method: str, path: str) -> Request:
        """Log a request, and decide on its fault."""
        with self._lock:
            request = Request(len(self.requests), method, path)
            request = attrs.evolve(request, fault=self.plan(request))
            self.requests.append(request)
            return request


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
    server_proxy: LossyProxy

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Keep the output of the tests free of requests."""

    def handle_expect_100(self) -> bool:
        """Answer 100 at once; the client waits for it."""
        went_on = super().handle_expect_100()
        self.wfile.flush()
        return went_on

    def do_GET(self) -> None:
        proxy = self.server_proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = proxy.noted(self.command, self.path).fault
        if fault is None or fault.is_done:
            reply = self._forwarded(body)
        elif fault is Fault.CUT_UPLOAD:
            self._forward_half(body)
            reply = None
        elif fault is Fault.NO_UPLOAD:
            reply = None
        else:
            assert fault.status is not None
            reply = _own_reply(fault.status)
        if fault is Fault.DONE_BUT_500:
            reply = _own_reply(500)
        if fault is Fault.LATE:
            time.sleep(proxy.late_seconds)
        if reply is None or fault is Fault.LOST_REPLY:
            self.close_connection = True
            return
        head, content = reply
        if self.command == "HEAD":
            content = b""
        # Within the body, or within the status of a reply that has none.
        cut = len(head) + len(content) // 2 if content else len("HTTP/1.1 2")
        is_cut = fault is Fault.CUT_REPLY
        with suppress(OSError):  # the client may be gone
            self.wfile.write((head + content)[: cut if is_cut else None])
            self.wfile.flush()
        self.close_connection = self.close_connection or is_cut

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - as http.server wants it

    def _forwarded(self, body: bytes) -> tuple[bytes, bytes] | None:
        """Return head and body of the server's reply; None: it gave none."""
        upstream = self._connection()
        try:
            upstream.request(self.command, self.path, body or None, self._sent())
            reply = upstream.getresponse()
            content = reply.read()
        except (OSError, HTTPException):
            return None
        finally:
            upstream.close()
        return self._head(reply, content), content

    def _forward_half(self, body: bytes) -> None:
        upstream = self._connection()
        with suppress(OSError):
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self._sent().items():
                upstream.putheader(name, value)
            upstream.endheaders()
            upstream.send(body[: len(body) // 2])
        upstream.close()

    def _sent(self) -> dict[str, str]:
        """Return the headers to forward; the body follows without a pause for a 100."""
        return {name: value for name, value in self.headers.items() if name.lower() != "expect"}

    def _connection(self) -> HTTPConnection:
        parts = urlsplit(self.server_proxy.target)
        assert parts.hostname is not None
        return HTTPConnection(parts.hostname, parts.port, timeout=_DEADLINE_SECONDS)

    def _head(self, reply: HTTPResponse, content: bytes) -> bytes:
        lines = [f"HTTP/1.1 {reply.status} {reply.reason}"]
        shift = self.server_proxy.clock_shift_seconds
        for name, value in reply.getheaders():
            match name.lower():
                case "date" if shift:
                    moved = parsedate_to_datetime(value) + timedelta(seconds=shift)
                    lines.append(f"Date: {format_datetime(moved, usegmt=True)}")
                case "connection" | "transfer-encoding" | "keep-alive":
                    continue
                case "content-length" if self.command != "HEAD":
                    continue
                case _:
                    lines.append(f"{name}: {value}")
        if self.command != "HEAD" and reply.status != 204:
            lines.append(f"Content-Length: {len(content)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _own_reply(status: int) -> tuple[bytes, bytes]:
    codes = {409: "OperationAborted", 412: "PreconditionFailed", 429: "TooManyRequests"}
    code = codes.get(status, "SlowDown" if status == 503 else "InternalError")
    content = f"<Error><Code>{code}</Code><Message>made by a test</Message></Error>".encode()
    now = format_datetime(datetime.now(UTC), usegmt=True)
    head = f"HTTP/1.1 {status} {code}\r\nDate: {now}\r\nContent-Type: application/xml\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode(), content
