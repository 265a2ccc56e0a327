"""TLS over any stream; all records of one read are decrypted at once.

Exchanges send each small frame in a TLS record of its own. trio.SSLStream gives one record a call,
and each call costs a round of the event loop. Here a read of the transport is one call, however
many records it held (`python -m benchmarks receive` shows the cost of a frame).
"""

import os
import ssl
import stat
from pathlib import Path

import attrs
import trio

from kline_trio.errors import ConfigError

_READ_BYTES = 262_144
_RECORD_BYTES = 16_384
"""One record holds no more plain text (RFC 8446, section 5.1), and a call reads from one record
only: to ask for more is merely to allocate more."""


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context that trusts the system's certificates and those of the file, in PEM.

    TLS 1.2 and newer; names are checked, and nothing switches that off. It reads files: call it in
    a thread.

    Raises:
      ConfigError: the file cannot be read, or holds no certificate; or OpenSSL cannot use a file
        that the environment names.
    """
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        for path in os.environ.get(name, "").split(os.pathsep):
            if _is_pipe(Path(path)):
                problem = f"the environment's {name}, {path!r}: it is no file, but a pipe"
                raise ConfigError([f"{problem}; mend it, or unset it"])
    try:
        context = ssl.create_default_context()
    except (OSError, ValueError) as error:  # also ssl.SSLError
        why = getattr(error, "strerror", None) or error
        raise ConfigError([f"{_culprit()}: {why}; mend it, or unset it"]) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # So that to receive never needs to send: nothing else does in TLS 1.2, see TlsStream.
    context.options |= ssl.OP_NO_RENEGOTIATION
    if ca_file is not None:
        try:
            if _is_pipe(ca_file):
                raise ConfigError([f"connection.ca_file: {ca_file} is no file, but a pipe"])
            context.load_verify_locations(ca_file)
        except ssl.SSLError as error:
            problem = f"connection.ca_file: {ca_file} holds no certificate in PEM ({error.reason})"
            raise ConfigError([problem]) from None
        except OSError as error:
            problem = f"connection.ca_file: {ca_file} cannot be read: {error.strerror}"
            raise ConfigError([problem]) from None
    return context


def _is_pipe(path: Path) -> bool:
    """Return whether OpenSSL would wait for ever to read this file."""
    try:
        return stat.S_ISFIFO(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _culprit() -> str:
    """Return the environment variable that makes the context fail."""
    path = os.environ.get("SSLKEYLOGFILE")
    if path:
        try:
            with open(path, "a+b"):  # noqa: PTH123 - as Python does, whatever the name is
                pass
        except (OSError, ValueError):
            return f"the environment's SSLKEYLOGFILE, {path!r}"
    return "the environment's SSL_CERT_FILE, SSL_CERT_DIR or OPENSSL_CONF"


async def open_tls(
    transport: trio.abc.Stream, context: ssl.SSLContext, server_hostname: str
) -> "TlsStream":
    """Do the handshake of a client, and return the encrypted stream.

    If it fails or is cancelled, the transport is unusable, and the caller must close it.

    Args:
      transport: carries the records; it is closed with the returned stream.
      context: of `tls_context`.
      server_hostname: the name or IP address that the server's certificate must have.

    Raises:
      trio.BrokenResourceError: the certificate is refused, the server's TLS is too old, or the
        connection was lost; the message says which.
    """
    stream = TlsStream(transport, context, server_hostname)
    await stream._shake_hands()  # noqa: SLF001 - no other code holds it yet
    return stream


_NO_TLS = frozenset(("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"))
"""OpenSSL's reasons if the first bytes are of another protocol."""


def _words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: the certificate is refused: {error.verify_message}"
    words = f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"
    return f"{words}: no TLS server, most likely" if error.reason in _NO_TLS else words


@attrs.define(eq=False)
class _OneAtATime:
    """Refuses a second task at the same time, as Trio's own streams do."""

    what: str
    _busy: bool = False

    def __enter__(self) -> None:
        if self._busy:
            raise trio.BusyResourceError(f"another task is {self.what} this stream")
        self._busy = True

    def __exit__(self, *_: object) -> None:
        self._busy = False


class TlsStream(trio.abc.Stream):
    """An encrypted stream of `open_tls`, with the guarantees of trio.SSLStream.

    One task may send while another receives. Receiving never sends. TLS 1.3 wants an answer to a
    KeyUpdate before our next data and no sooner (RFC 8446, section 4.6.3), so the answer waits in
    the outgoing buffer and leaves before those data. An end without close_notify is an end
    (`https_compatible`, as trio calls it): WebSocket's own CLOSE shows whether data are missing.
    """

    def __init__(
        self, transport: trio.abc.Stream, context: ssl.SSLContext, server_hostname: str
    ) -> None:
        self.transport = transport
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=server_hostname
        )
        self._receiving = _OneAtATime("receiving from")
        self._sending = _OneAtATime("sending to")
        self._dry = False  # whether all received bytes are decrypted and fetched
        self._ended = False
        self._fault: str | None = None
        self._cut_off = False  # whether a record was sent in part, or is on its way
        self._closed = False

    async def _shake_hands(self) -> None:
        done = False
        while not done:
            try:
                self._tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:  # also of certificates
                raise trio.BrokenResourceError(_words(error)) from error
            if self._outgoing.pending:
                await self._send_outgoing()
            if not done:
                await self._receive_incoming()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive at most `max_bytes` of what the next read of the transport brings.

        Return nothing at the end, announced or not. If cancelled, no bytes are lost.

        Raises:
          trio.BrokenResourceError: the connection was lost, or tampered with.
          trio.ClosedResourceError: this stream is closed.
          trio.BusyResourceError: another task is receiving.
        """
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be >= 1")
        with self._receiving:
            self._check()
            if not self._dry or self._ended:
                await trio.lowlevel.checkpoint()
            while not self._ended:
                if not self._dry and (plain := self._decrypt(max_bytes or _READ_BYTES)):
                    return plain
                if self._dry:
                    await self._receive_incoming()
            return b""

    def _decrypt(self, most_bytes: int) -> bytes:
        """Return the plain text there is, up to so much; an end or an error comes after it."""
        read, pieces, left = self._tls.read, [], most_bytes
        try:
            while left > 0:
                piece = read(min(left, _RECORD_BYTES))
                if not piece:  # close_notify
                    self._ended = True
                    break
                pieces.append(piece)
                left -= len(piece)
        except ssl.SSLWantReadError:
            self._dry = True
        except ssl.SSLEOFError:
            self._ended = True
        except ssl.SSLError as error:
            self._fault = _words(error)
            if not pieces:
                raise trio.BrokenResourceError(self._fault) from error
        return b"".join(pieces)

    async def _receive_incoming(self) -> None:
        data = await self.transport.receive_some(_READ_BYTES)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        self._dry = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send all of the data. If cancelled, nothing more can be sent.

        Raises:
          trio.BrokenResourceError: the connection was lost.
          trio.ClosedResourceError: this stream is closed.
          trio.BusyResourceError: another task is sending.
        """
        with self._sending:
            self._check()
            if self._cut_off:  # the peer could not decrypt any later record
                raise trio.BrokenResourceError("sending was cut off in the middle of a record")
            if not data:  # OpenSSL takes an empty write for the end
                await trio.lowlevel.checkpoint()
                return
            try:
                self._tls.write(data)
            except ssl.SSLError as error:
                raise trio.BrokenResourceError(_words(error)) from error
            await self._send_outgoing()

    async def _send_outgoing(self) -> None:
        self._cut_off = True
        await self.transport.send_all(self._outgoing.read())
        self._cut_off = False

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the transport may have room."""
        with self._sending:
            self._check()
            await self.transport.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the transport, without a close_notify."""
        self._closed = True
        await self.transport.aclose()

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        if self._fault is not None:
            raise trio.BrokenResourceError(self._fault)
