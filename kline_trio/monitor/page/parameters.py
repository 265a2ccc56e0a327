"""Check the parameters of a request, such as the key of a series, `spot/BTCUSDT/1m` (pure)."""

import enum
from collections.abc import Collection, Mapping
from typing import TypeVar

import attrs

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.errors import KlineTrioError
from kline_trio.quoting import shown

_MOST_VALUES = 500
_MOST_LETTERS = 200
_Word = TypeVar("_Word", bound=enum.StrEnum)


class Format(enum.StrEnum):
    """How a table is answered."""

    JSON = "json"
    CSV = "csv"


class GapState(enum.StrEnum):
    """Which gaps are asked for."""

    ANY = "any"
    PENDING = "pending"
    FILLED = "filled"
    CLOSED = "closed"


class BadRequestError(KlineTrioError):
    """The request is wrong; the text says how."""


class NotFoundError(KlineTrioError):
    """There is nothing of this name."""


@attrs.frozen
class Parameters:
    """The query of a request."""

    values: Mapping[str, list[str]]

    def check_names(self, known: Collection[str]) -> None:
        """Refuse names that mean nothing here: a misspelled one would change the answer unseen.

        Raises:
          BadRequestError: there is one.
        """
        for name in self.values:
            if name not in known:
                raise BadRequestError(
                    f"there is no parameter {shown(name, 50)}; one of {', '.join(sorted(known))}"
                )

    def texts(self, name: str) -> list[str]:
        """Return all values of a name.

        Raises:
          BadRequestError: they are too many, or too long.
        """
        found = self.values.get(name, [])
        if len(found) > _MOST_VALUES:
            raise BadRequestError(f"{name}: at most {_MOST_VALUES} values are taken")
        if any(len(one) > _MOST_LETTERS for one in found):
            raise BadRequestError(f"{name}: at most {_MOST_LETTERS} letters are taken")
        return found

    def text(self, name: str, default: str = "") -> str:
        """Return the value of a name.

        Raises:
          BadRequestError: it has several, or too long a one.
        """
        found = self.texts(name)
        if len(found) > 1:
            raise BadRequestError(f"{name}: one value is wanted")
        return found[0] if found else default

    def word(self, name: str, default: _Word) -> _Word:
        """Return the value of a name that is one of some words.

        Raises:
          BadRequestError: it is none of them.
        """
        kind = type(default)
        text = self.text(name, default.value)
        try:
            return kind(text)
        except ValueError:
            words = ", ".join(one.value for one in kind)
            raise BadRequestError(f"{name}: one of {words}, not {shown(text, 50)}") from None

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """Return the value of a name that is a whole number.

        Raises:
          BadRequestError: it is no number from `least` to `most`.
        """
        found = self._number(name)
        if found is None:
            return default
        if not least <= found <= most:
            raise BadRequestError(f"{name}: {least:,} to {most:,} are taken, not {found:,}")
        return found

    def moment(self, name: str) -> int | None:
        """Return the value of a name that is a time in ms since 1970; None if there is none.

        Raises:
          BadRequestError: it is no such time.
        """
        found = self._number(name)
        if found is not None and not 0 <= found <= MAX_TIME_MS:
            raise BadRequestError(f"{name}: a time in ms since 1970 is wanted, not {found:,}")
        return found

    def _number(self, name: str) -> int | None:
        text = self.text(name)
        if not text:
            return None
        if not (text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()):
            raise BadRequestError(f"{name}: a whole number is wanted, not {shown(text, 50)}")
        if len(text) > 20:
            raise BadRequestError(f"{name}: this number is too large")
        return int(text)

    def series(self, name: str = "series") -> Series:
        """Return the series that the value of a name is the key of.

        Raises:
          BadRequestError: there is none, or it is no key of a series.
        """
        found = self.optional_series(name)
        if found is None:
            raise BadRequestError(f"{name}: the key of a series is wanted, as spot/BTCUSDT/1m")
        return found

    def optional_series(self, name: str = "series") -> Series | None:
        """Return the series as `series` does; None if the name has no value.

        Raises:
          BadRequestError: it is no key of a series.
        """
        text = self.text(name)
        return _series(name, text) if text else None

    def many_series(self, name: str = "series") -> list[Series]:
        """Return the series of all values of a name.

        Raises:
          BadRequestError: one is no key of a series.
        """
        return [_series(name, one) for one in self.texts(name)]


def _series(name: str, key: str) -> Series:
    try:
        return series_of_key(key)
    except ValueError as error:
        raise BadRequestError(f"{name}: {shown(key, 60)}: {shown(str(error))}") from None


def key_of(series: Series) -> str:
    """Return the key of a series, as addresses and answers have it."""
    return f"{series.trade_type}/{series.symbol}/{series.time_interval}"


def series_of_key(key: str) -> Series:
    """Return the series of a key.

    Raises:
      ValueError: it is no key of a series.
    """
    parts = key.split("/")
    if len(parts) != 3:
        raise ValueError("a series is market/symbol/interval, as spot/BTCUSDT/1m")
    return Series(*parts)
