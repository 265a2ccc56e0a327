"""The errors of kline_trio. Each class says who is at fault: user, exchange or disk."""

from collections.abc import Iterator


class KlineTrioError(Exception):
    """The base of all errors that kline_trio raises on purpose. The text is for the user."""


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Give the errors in a group and in the groups within it; an error by itself is one."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


class ConfigError(KlineTrioError, ValueError):
    """The user's configuration or arguments cannot be used as they are.

    Attributes:
      problems: all problems that were found, a line each.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ProtocolError(KlineTrioError):
    """The exchange sent a wrong message or row.

    The text is one of a bounded set, to count errors by. It never quotes what was sent.
    """


class StoreInUseError(KlineTrioError):
    """Another recorder holds the store."""


class NotRunningError(KlineTrioError):
    """No recorder listens at the store's control socket."""


class NoAnswerError(KlineTrioError):
    """A recorder listens at the store's control socket, and gives no answer that can be used."""


class NotAllowedError(NoAnswerError):
    """The recorder that listens is another user's, who alone may ask it."""


class DiskError(KlineTrioError):
    """The disk failed a read or a write of the store."""


class DiskFullError(DiskError):
    """The disk is full, the quota used up, or the file system read-only. A retry may help."""


class DamagedError(DiskError):
    """A file does not hold what was written to it."""


class LakeError(KlineTrioError):
    """The lake cannot be used. Nothing local is lost."""


class UnavailableError(KlineTrioError):
    """The exchange gave no answer, or an answer that cannot be used. A retry may help."""


class DamagedArchiveError(UnavailableError):
    """A published archive file is missing, or its content is wrong."""


class RefusedError(UnavailableError):
    """The exchange refuses the request, or this address.

    Attributes:
      code: the exchange's error code, if the request is wrong; None if the exchange refuses the
        address that sent it.
    """

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code
