"""The errors of a lake. `lake_errors` says which one a library's error is, and what to do.

The libraries give most errors of the network as OSError or as their own base class, so the HTTP
status, the code of S3 and the number of the system's error are taken from the text. Words count
only where there is none of these: a path or a duration may hold any word and any number.
"""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from kline_trio.errors import ConfigError, KlineTrioError
from kline_trio.errors import LakeError as LakeError
from kline_trio.quoting import one_line, shown


class LakeUnreachableError(LakeError):
    """The object store gave no answer, or one that a retry may change."""


class LakeFileGoneError(LakeUnreachableError):
    """A file that a version of a table names is gone. A later version may not need it."""


class LakeDeniedError(LakeError):
    """The object store refuses these credentials, or has no such bucket."""


class ForeignLakeError(LakeError, ConfigError):
    """The address holds something that kline_trio did not make, or that a newer one made."""

    def __init__(self, problem: str) -> None:
        super().__init__([problem])


class ConflictError(LakeError):
    """Another program committed to the same table meanwhile. Load the table again, and retry."""


_BUGS = (AssertionError, AttributeError, MemoryError, NameError, TypeError, Warning)
"""These pass: no lake is to blame."""
_CONFLICTS = frozenset({"CommitFailedError", "AlreadyExistsError", "PreconditionError"})
"""Names of the libraries' classes."""
_CONFLICT_WORDS = ("version already exists", "Invalid table version", "concurrent")
"""Of a DeltaError."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ARROW = re.compile(r"\s*↳\s*")
_DEBUG = "\n\nDebug source:"
_STATUS = re.compile(r"non-2xx status code: ([1-5][0-9][0-9])\b")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,200})")
_SYSTEM = re.compile(r"(?:\(os error |\bOs \{ code: )([0-9]{1,5})\b")
_REQUEST = re.compile(
    r"Error performing (?:list request: )?(?:Error performing )?([A-Z]+) \S+ in [^ ,]+"
    r"(?:, after [0-9]+ retries, max_retries: [0-9]+, retry_timeout: \S+)?\s+- "
)
_GONE = re.compile(r"Object at location (.{1,300}?) not found")
_STRUCT = re.compile(r":? \w+ \{")
"""Where Rust begins to show its values."""
_NOISE = re.compile(
    r"Kernel error(?: ->|:) |Generic [\w ]+ error: |Failed to parse parquet: |External: "
    r"|Error performing list request: |Error getting list response body: "
)

_DENIED = {
    "InvalidAccessKeyId": "the access key is unknown: check AWS_ACCESS_KEY_ID or the profile",
    "SignatureDoesNotMatch": "the secret key is wrong: check AWS_SECRET_ACCESS_KEY or the profile",
    "ExpiredToken": "the credentials have expired: get new ones",
    "InvalidToken": "the session token is wrong: check AWS_SESSION_TOKEN",
    "NoSuchBucket": "there is no such bucket: make the bucket, or check the url",
    "PermanentRedirect": "the bucket is in another region: set region",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set region",
    "AccessDenied": "access is denied: allow these credentials to list, read and write there",
}
"""What to do, by the code of S3, where a retry alone changes nothing."""
_ADVICE = {
    "RequestTimeTooSkewed": "the clock of this machine is wrong: set the clock",
    "QuotaExceeded": "the quota is used up: make room there",
    "SlowDown": "too many requests",
}
_STATUSES = {
    401: "the credentials are refused: check AWS_ACCESS_KEY_ID and the secret key, or the profile",
    403: _DENIED["AccessDenied"],
    429: "too many requests",
    503: "the object store is overloaded",
    507: "the object store is full: make room there",
}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}
_SYSTEM_ADVICE = {
    errno.ENOSPC: "the disk is full: make room there",
    errno.EDQUOT: "the quota of the disk is used up: make room there",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "this user may not write there: change the owner or the mode of the folder",
    errno.EPERM: "this user may not write there: change the owner or the mode of the folder",
}
_NETWORK = {
    "failed to lookup address": "the host is unknown: check the endpoint and DNS",
    "dns error": "the host is unknown: check the endpoint and DNS",
    "peer certificate": "TLS failed: the certificate of the endpoint is not accepted",
    "InvalidCertificate": "TLS failed: the certificate of the endpoint is not accepted",
    "InvalidContentType": "TLS failed: the endpoint does not speak TLS",
    "Connection refused": "nothing listens at the endpoint: check its address, or start the server",
    "timed out": "no answer in time",
    "TimedOut": "no answer in time",
    "kind: Timeout": "no answer in time",
    "before message": "the connection ended within an answer",
    "IncompleteMessage": "the connection ended within an answer",
    "Connection reset": "the connection was reset",
}
"""What happened, by words of the HTTP library; the first that is found."""


@contextmanager
def lake_errors(what: str) -> Iterator[None]:
    """Raise a LakeError for an error of the libraries in the body.

    Args:
      what: what the body does, as `s3://bucket/klines: cannot be opened`; it begins the message.
    """
    try:
        yield
    except (KlineTrioError, *_BUGS):
        raise
    except BaseException as error:
        # A panic of the Rust code is no Exception; its text is short, the rest goes to stderr.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise _lake_error(what, error) from error


def _lake_error(what: str, error: BaseException) -> LakeError:
    text = _ARROW.sub(": ", _COLOUR.sub("", str(error)))
    name = type(error).__name__
    status, code = _status(text), _first(_CODE, text)
    if name in _CONFLICTS or status in (409, 412):
        return ConflictError(f"{what}: another program wrote there meanwhile")
    if name == "DeltaError" and any(word in text for word in _CONFLICT_WORDS):
        return ConflictError(f"{what}: another program wrote there meanwhile")
    if (gone := _first(_GONE, text)) is not None:
        return LakeFileGoneError(f"{what}: another program has deleted {shown(gone)}")
    if status is not None:
        return _of_status(what, status, code, _first(_MESSAGE, text))
    number = int(_first(_SYSTEM, text) or 0) or (isinstance(error, OSError) and error.errno) or 0
    if number in _NO_PERMISSION:
        return LakeDeniedError(f"{what}: {_SYSTEM_ADVICE[number]}")
    if number in _NO_ROOM:
        return LakeUnreachableError(f"{what}: {_SYSTEM_ADVICE[number]}")
    for words, meaning in _NETWORK.items():
        if words in text:
            return LakeUnreachableError(f"{what}: {meaning}")
    return LakeUnreachableError(f"{what}: {_short(text)}")


def _status(text: str) -> int | None:
    found = _first(_STATUS, text)
    return None if found is None else int(found)


def _first(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return None if match is None else match[1]


def _of_status(what: str, status: int, code: str | None, message: str | None) -> LakeError:
    """Return the error of an HTTP answer."""
    answer = " ".join(filter(None, [str(status), code]))
    if code in _DENIED:
        return LakeDeniedError(f"{what}: {_DENIED[code]} ({answer})")
    if code in _ADVICE:
        return LakeUnreachableError(f"{what}: {_ADVICE[code]} ({answer})")
    advice = _STATUSES.get(status) or (shown(message) if message else "the object store failed")
    kind = LakeDeniedError if status in (401, 403) else LakeUnreachableError
    return kind(f"{what}: {advice} ({answer})")


def _short(text: str) -> str:
    """Return the text of a library without its details of the request, as one line."""
    head = _REQUEST.sub(r"\1: ", _STRUCT.split(text.partition(_DEBUG)[0])[0])
    return one_line(" ".join(_NOISE.sub("", head).split()))[:300]
