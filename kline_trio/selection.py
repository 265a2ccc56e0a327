"""Rules that select symbols of a market by names, patterns and properties."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

import attrs

from kline_trio.candle import TRADE_TYPES, check_symbol, upper_ascii
from kline_trio.interval import INTERVALS
from kline_trio.listing import Listing

PROPERTIES = {"quote": "quote", "base": "base", "contract": "contract_type", "margin": "margin"}
"""The properties that a rule may require, with their names in `Listing`."""
_WILDCARDS = "*?"


def _check_pattern(_: object, __: object, pattern: str) -> None:
    # Without its wildcards, a pattern must be a part of a symbol. So it cannot have a `[`, which is
    # special to fnmatch.
    try:
        check_symbol("".join(one for one in pattern if one not in _WILDCARDS) or "X")
    except ValueError as error:
        raise ValueError(f"{error}; in a pattern, also * and ?") from None
    if not pattern:
        raise ValueError("a symbol or a pattern is wanted")


@attrs.frozen(kw_only=True)
class Rule:
    """A rule that adds or removes symbols. An empty property matches every symbol.

    Assets and contract types are compared as texts, ignoring the case of ASCII letters, so that a
    rule can name contract types that the exchange introduces later.

    Raises:
      ValueError: the pattern can match no symbol.
    """

    pattern: str = attrs.field(default="*", validator=_check_pattern)
    """A symbol, perhaps with wildcards: `*` matches any characters or none, `?` exactly one."""
    is_exclusion: bool = False
    """Whether the rule removes symbols that earlier rules added, trading or not."""
    quote: tuple[str, ...] = ()
    base: tuple[str, ...] = ()
    contract: tuple[str, ...] = ()
    margin: tuple[str, ...] = ()

    @property
    def is_name(self) -> bool:
        """Whether this names one symbol, which is selected whether it is listed or not."""
        return not (
            self.is_exclusion or self._properties or any(one in self.pattern for one in _WILDCARDS)
        )

    @property
    def _properties(self) -> dict[str, tuple[str, ...]]:
        return {name: texts for name in PROPERTIES if (texts := getattr(self, name))}

    def matches(self, listing: Listing) -> bool:
        """Return whether the pattern and all properties match a symbol."""
        return fnmatchcase(listing.symbol, self.pattern) and all(
            _is_one_of(getattr(listing, PROPERTIES[name]), texts)
            for name, texts in self._properties.items()
        )

    def __str__(self) -> str:
        properties = ", ".join(
            f"{name} = {' or '.join(texts)}" for name, texts in self._properties.items()
        )
        return f"{{ {properties} }}" if properties else "!" * self.is_exclusion + self.pattern


def _is_one_of(text: str | None, wanted: tuple[str, ...]) -> bool:
    return text is not None and upper_ascii(text) in map(upper_ascii, wanted)


@attrs.frozen
class Selection:
    """Rules that select the series of one market and interval from the exchange's list.

    Raises:
      ValueError: the market or the interval is unknown.
    """

    trade_type: str = attrs.field(validator=attrs.validators.in_(TRADE_TYPES))
    time_interval: str = attrs.field(validator=attrs.validators.in_(tuple(INTERVALS)))
    rules: tuple[Rule, ...]
    """In order: the last rule that matches a symbol decides."""

    def resolve(self, listings: Mapping[str, Listing]) -> tuple[str, ...]:
        """Return the selected symbols, each once, in the order of the rules, then by name.

        A named symbol is selected whether it is listed or not. Other rules add only symbols that
        trade now.

        Args:
          listings: the market's list, by symbol.
        """
        in_order = sorted(listings.values(), key=lambda listing: listing.symbol)
        taken: dict[str, Listing] = {}
        for rule in self.rules:
            if rule.is_name:
                listing = listings.get(rule.pattern) or Listing(symbol=rule.pattern)
                taken.setdefault(rule.pattern, listing)
            elif rule.is_exclusion:
                taken = {name: one for name, one in taken.items() if not rule.matches(one)}
            else:
                for listing in in_order:
                    if listing.is_trading and rule.matches(listing):
                        taken.setdefault(listing.symbol, listing)
        return tuple(taken)

    def idle(self, listings: Mapping[str, Listing]) -> tuple[Rule, ...]:
        """Return the rules that match no symbol that they could add or remove.

        Args:
          listings: the market's list, by symbol.
        """
        named = [Listing(symbol=rule.pattern) for rule in self.rules if rule.is_name]
        trading = [one for one in listings.values() if one.is_trading]
        return tuple(
            rule
            for rule in self.rules
            if not rule.is_name
            and not any(
                map(rule.matches, [*named, *listings.values()] if rule.is_exclusion else trading)
            )
        )

    def __str__(self) -> str:
        return f"{self.trade_type} {' '.join(map(str, self.rules))}-{self.time_interval}"
