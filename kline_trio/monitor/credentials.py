"""What lets readers in: the token, and the certificate of TLS."""

import os
import ssl
import stat
from pathlib import Path
from typing import NoReturn

import attrs

from kline_trio.config.monitor import MonitorConfig
from kline_trio.config.toml import open_nonblocking, text_of_file
from kline_trio.errors import ConfigError

_LEAST_TOKEN = 16
_MISMATCH = "KEY_VALUES_MISMATCH"

Stamp = tuple[tuple[int, int, int], ...]
"""Inode, time of change in ns, and size of each file: another stamp means another content."""


@attrs.frozen(kw_only=True)
class Credentials:
    """What was read from the files and the environment variable that `[monitor]` names."""

    token: str | None = attrs.field(default=None, repr=False)
    context: ssl.SSLContext | None = attrs.field(default=None, repr=False)
    stamp: Stamp = ()
    exposed: Path | None = None
    """The token's or the key's file, if every user of this machine can read it."""

    @classmethod
    def read(cls, settings: MonitorConfig) -> "Credentials":
        """Read the files and the variable. Files must not be pipes, which could block for ever.

        Raises:
          ConfigError: one cannot be read or used; it is named, its content is not shown.
        """
        token = context = None
        stamp = stamp_of(settings)
        if settings.token_file is not None:
            token = _token(text_of_file(settings.token_file), str(settings.token_file))
        elif settings.token_variable is not None:
            name = settings.token_variable
            token = _token(os.environ.get(name, ""), f"the environment variable {name}")
        if settings.tls_cert is not None and settings.tls_key is not None:
            context = _context(settings.tls_cert, settings.tls_key)
        secrets = filter(None, (settings.token_file, settings.tls_key))
        exposed = next((one for one in secrets if one.stat().st_mode & stat.S_IROTH), None)
        return cls(token=token, context=context, stamp=stamp, exposed=exposed)


def stamp_of(settings: MonitorConfig) -> Stamp:
    """Return the stamp of the files as they are now.

    Raises:
      ConfigError: a file is not there, or is no regular file.
    """
    files = filter(None, (settings.token_file, settings.tls_cert, settings.tls_key))
    return tuple(map(_stamp, files))


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        with open(path, "rb", opener=open_nonblocking) as file:
            found = os.fstat(file.fileno())
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError([f"{path}: cannot be read: it is no file, but a pipe or a device"])
    return found.st_ino, found.st_mtime_ns, found.st_size


def _token(text: str, place: str) -> str:
    token = text.strip()
    if len(token) < _LEAST_TOKEN:
        raise ConfigError([f"{place}: a token has at least {_LEAST_TOKEN} characters"])
    # A header cannot carry other characters in one way that all clients share.
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigError([f"{place}: a token is one word of ASCII letters, digits and signs"])
    return token


def _context(cert: Path, key: Path) -> ssl.SSLContext:
    def refuse() -> NoReturn:
        # Without this, OpenSSL asks for a password on the terminal, and waits for ever.
        raise ConfigError([f"{key}: the key is encrypted: decrypt it, as by `openssl pkey`"])

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key, refuse)
    except ssl.SSLError as error:
        if error.reason == _MISMATCH:
            raise ConfigError([f"{key}: is not the key of the certificate in {cert}"]) from None
        what, wrong = ("key", key) if _has_certificate(cert) else ("certificate", cert)
        raise ConfigError([f"{wrong}: holds no {what} in PEM"]) from None
    return context


def _has_certificate(path: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return False
    return True
