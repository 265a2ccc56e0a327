"""What can go wrong, named by whose fault it is."""

__all__ = ["ConfigError", "DamagedArchiveError", "DamagedError", "DiskError", "KlineTrioError"]
__all__ += ["DiskFullError", "ProtocolError", "RefusedError", "StoreInUseError", "UnavailableError"]


class KlineTrioError(Exception):
    """Whatever kline_trio raises on purpose; its text is meant for the user."""


class ConfigError(KlineTrioError, ValueError):
    """The user's configuration or arguments cannot be used as they are.

    Attributes:
      problems: every problem found, a line each.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ProtocolError(KlineTrioError):
    """The exchange sent something that it should not have sent.

    Its text is one of a bounded set, to count and report by: it never quotes what was sent.
    """


class StoreInUseError(KlineTrioError):
    """Another recorder holds the store."""


class DiskError(KlineTrioError):
    """The disk refused what the store needs of it."""


class DiskFullError(DiskError):
    """The disk is full, the quota used up, or the file system read-only; that may pass."""


class DamagedError(DiskError):
    """What the disk holds is not what was written to it."""


class UnavailableError(KlineTrioError):
    """The exchange could not be asked, or its answer cannot be used; asking again may help."""


class DamagedArchiveError(UnavailableError):
    """A published archive file is not what it should be."""


class RefusedError(UnavailableError):
    """The exchange will not answer: not this question, or not us.

    Attributes:
      code: the exchange's error code, if the question itself is wrong; None if it is where it is
        asked from.
    """

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code
