"""exchangeInfo answers as listings; a malformed entry does not lose the others (pure).

Facts are from Binance's spot rest-api.md ("Exchange information") and the USDS-M and COIN-M
"Exchange Information" pages.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypeVar

import attrs
import msgspec

from kline_trio.candle import MAX_TIME_MS
from kline_trio.errors import UnavailableError
from kline_trio.listing import Listing

_SHOWN_CHARACTERS = 40

_MOST_VALUES = 4_000_000
"""Commas in an answer; spot's 15 MB have some 700,000. Each can be an object in memory."""
_MOST_SYMBOLS = 20_000
"""Spot lists some 3,600."""
_MINUTE_WEIGHT = ("REQUEST_WEIGHT", "MINUTE", 1)
_MOST_FILTERS = 50
"""Of one symbol, which has some ten."""

_Text = Annotated[str, msgspec.Meta(max_length=64)]
_TimeMs = Annotated[int, msgspec.Meta(ge=0, lt=MAX_TIME_MS)]
_Value = TypeVar("_Value")


@attrs.frozen
class ExchangeInfo:
    """The content of an answer."""

    listings: dict[str, Listing]
    """By symbol."""
    weight_per_minute: int | None
    """The budget of request weight for one address; None if the answer has none."""
    odd: tuple[str, ...]
    """Entries that can be no symbols; they are skipped."""


# The names of the fields are the exchange's.
class _Filter(msgspec.Struct):
    filterType: str = ""  # noqa: N815
    tickSize: _Text | None = None  # noqa: N815


class _Symbol(msgspec.Struct):
    symbol: str
    status: _Text = ""
    contractStatus: _Text = ""  # noqa: N815 - COIN-M's word for it
    contractType: _Text | None = None  # noqa: N815
    baseAsset: _Text | None = None  # noqa: N815
    quoteAsset: _Text | None = None  # noqa: N815
    marginAsset: _Text | None = None  # noqa: N815
    onboardDate: _TimeMs | None = None  # noqa: N815
    deliveryDate: _TimeMs | None = None  # noqa: N815
    filters: list[_Filter] = []


class _RateLimit(msgspec.Struct):
    rateLimitType: str = ""  # noqa: N815
    interval: str = ""
    intervalNum: int = 0  # noqa: N815
    limit: int = 0


class _Answer(msgspec.Struct):
    symbols: list[_Symbol]
    rateLimits: list[_RateLimit] = []  # noqa: N815


class _LooseAnswer(msgspec.Struct):
    symbols: list[msgspec.Raw]
    rateLimits: Any = None  # noqa: N815


_ANSWER = msgspec.json.Decoder(_Answer)
_LOOSE_ANSWER = msgspec.json.Decoder(_LooseAnswer)


def read_exchange_info(body: bytes) -> ExchangeInfo:
    """Read an exchangeInfo answer. A key that is absent, or has another type, has no value.

    Raises:
      msgspec.DecodeError: the body is no JSON, or holds no list of symbols.
      UnicodeError: the body is no text.
      UnavailableError: it lists more than an exchange can have.
    """
    if body.count(b",") > _MOST_VALUES:
        raise UnavailableError(f"a list of symbols of more than {_MOST_VALUES:,} values")
    try:
        answer = _ANSWER.decode(body)
    except msgspec.ValidationError:
        # An entry of another shape must not lose the others, so each is read by itself. That
        # takes twice as long, so it is not the first try.
        loose = _LOOSE_ANSWER.decode(body)
        _check_count(loose.symbols)
        limits = loose.rateLimits if isinstance(loose.rateLimits, list) else []
        answer = _Answer(
            [_read_alone(entry) for entry in loose.symbols],
            [one for limit in limits if (one := _converted(limit, _RateLimit)) is not None],
        )
    _check_count(answer.symbols)
    listings = {}
    odd = []
    for entry in answer.symbols:
        try:
            listings[entry.symbol] = _listing(entry)
        except ValueError:
            odd.append(entry.symbol[:_SHOWN_CHARACTERS])
    return ExchangeInfo(listings, _weight_per_minute(answer.rateLimits), tuple(odd))


def _check_count(symbols: Sequence[object]) -> None:
    if len(symbols) > _MOST_SYMBOLS:
        raise UnavailableError(f"a list of more than {_MOST_SYMBOLS:,} symbols")


def _listing(entry: _Symbol) -> Listing:
    ticks = [one.tickSize for one in entry.filters if one.filterType == "PRICE_FILTER"]
    return Listing(
        symbol=entry.symbol,
        status=entry.contractStatus or entry.status,
        contract_type=entry.contractType,
        base=entry.baseAsset,
        quote=entry.quoteAsset,
        margin=entry.marginAsset,
        tick_size=ticks[0] if ticks else None,
        onboard_ms=entry.onboardDate,
        delivery_ms=entry.deliveryDate,
    )


def _weight_per_minute(limits: Iterable[_RateLimit]) -> int | None:
    found = [
        limit.limit
        for limit in limits
        if (limit.rateLimitType, limit.interval, limit.intervalNum) == _MINUTE_WEIGHT
    ]
    return found[-1] if found else None


def _read_alone(entry: msgspec.Raw) -> _Symbol:
    try:
        return msgspec.json.decode(entry, type=_Symbol)
    except msgspec.ValidationError:
        values = msgspec.json.decode(entry)
    if not isinstance(values, dict) or not isinstance(values.get("symbol"), str):
        return _Symbol(f"no symbol: {bytes(entry)[:_SHOWN_CHARACTERS].decode(errors='replace')}")
    good = {
        field.name: value
        for field in msgspec.structs.fields(_Symbol)
        if field.name != "filters"
        and (value := _converted(values.get(field.name), field.type)) is not None
    }
    filters = values.get("filters")
    some = filters[:_MOST_FILTERS] if isinstance(filters, list) else []
    read = [_converted(one, _Filter) for one in some]
    return _Symbol(**good, filters=[one for one in read if one is not None])


def _converted(value: object, kind: type[_Value]) -> _Value | None:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return None
