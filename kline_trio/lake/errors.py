"""The errors of a lake. `kind_of` says which one a library's error is."""

from collections.abc import Iterator
from contextlib import contextmanager

from kline_trio.errors import ConfigError, KlineTrioError
from kline_trio.errors import LakeError as LakeError
from kline_trio.quoting import one_line


class LakeUnreachableError(LakeError):
    """The object store gave no answer, or one that a retry may change."""


class LakeDeniedError(LakeError):
    """The object store refuses these credentials, or has no such bucket."""


class ForeignLakeError(LakeError, ConfigError):
    """The address holds something that kline_trio did not make, or that a newer one made."""

    def __init__(self, problem: str) -> None:
        super().__init__([problem])


class ConflictError(LakeError):
    """Another program committed to the same table meanwhile. Load the table again, and retry."""


_CONFLICT = ("concurrent", "version already exists", "412", "precondition", "409", "conflict")
_DENIED = (
    "403", "forbidden", "lacked the necessary privileges", "accessdenied", "401",
    "invalidaccesskeyid", "signaturedoesnotmatch", "nosuchbucket", "unauthenticated",
    "permission denied", "read-only file system", "credential",
)  # fmt: skip
_FULL = ("507", "insufficient storage", "no space left", "quota", "entitytoolarge")


@contextmanager
def lake_errors(what: str) -> Iterator[None]:
    """Raise a LakeError for an error of the libraries in the body.

    Args:
      what: what the body does, as `s3://bucket/klines: cannot be opened`; it begins the message.
    """
    try:
        yield
    except (KlineTrioError, MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        # deltalake has its own classes for some of these, and OSError for others.
        raise _lake_error(what, error) from error


def _lake_error(what: str, error: Exception) -> LakeError:
    text = str(error)
    low, name = text.lower(), type(error).__name__
    problem = f"{what}: {one_line(text)[:300]}"
    if name == "CommitFailedError" or name in ("PreconditionError", "AlreadyExistsError"):
        return ConflictError(problem)
    if any(word in low for word in _DENIED):
        return LakeDeniedError(problem)
    if any(word in low for word in _FULL):
        return LakeUnreachableError(problem)
    if name in ("DeltaError", "DeltaProtocolError") and any(word in low for word in _CONFLICT):
        return ConflictError(problem)
    return LakeUnreachableError(problem)
