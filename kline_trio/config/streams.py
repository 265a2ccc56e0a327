"""The streams of recorder.toml: names, patterns and tables, to series and selections."""

from collections.abc import Iterator, Mapping

import attrs

from kline_trio.candle import Series, upper_ascii
from kline_trio.config.toml import Document, Where, hint
from kline_trio.config.values import read_text
from kline_trio.exchange.markets import MARKETS
from kline_trio.interval import Interval
from kline_trio.selection import PROPERTIES, Rule, Selection

__all__ = ["read_streams"]

_SPOT_HAS = ("quote", "base")


def read_streams(
    document: Document, value: object
) -> tuple[tuple[Series, ...], tuple[Selection, ...]]:
    """Return what to record; what cannot be recorded becomes a problem of the document.

    Returns:
      the series of lists that only name symbols, none twice, with markets in their usual order;
      and a selection for each list that holds more than names, with all that it holds.
    """
    markets = document.table(("streams",), value, tuple(MARKETS))
    series: dict[Series, None] = {}
    patterns: list[Selection] = []
    for trade_type in MARKETS:
        where = ("streams", trade_type)
        intervals = markets.get(trade_type, {})
        if not isinstance(intervals, dict):
            document.add_problem(where, 'lists of symbols are wanted, as 1m = ["BTCUSDT"]')
            continue
        for name, symbols in intervals.items():
            selection = _List((*where, name), trade_type, document).read(symbols)
            if selection is None:
                continue
            if not all(rule.is_name for rule in selection.rules):
                patterns.append(selection)
                continue
            for rule in selection.rules:
                one = Series(trade_type, rule.pattern, selection.time_interval)
                if one in series:
                    document.add_problem((*where, name), f"{one.symbol!r} is there twice")
                series[one] = None
    if not series and not patterns and not document.problems:
        document.add_problem(("streams",), "nothing to record: name at least one symbol")
    return tuple(series), tuple(patterns)


@attrs.frozen
class _List:
    """The list, or the table, of one market and interval."""

    where: Where
    trade_type: str
    document: Document

    def read(self, symbols: object) -> Selection | None:
        """Return the selection; None if the interval is wrong, or nothing can be used."""
        try:
            interval = Interval.from_text(self.where[-1])
        except ValueError as error:
            self._problem(error)
            return None
        if interval.name not in MARKETS[self.trade_type].intervals:
            self._problem(f"{self.trade_type} has no candles of {self.where[-1]}")
            return None
        if isinstance(symbols, dict):
            rules = [self._table_rule(symbols, "")]
        elif isinstance(symbols, list):
            if not symbols:
                self._problem("an empty list: name a symbol, or take the line out")
            rules = [self._rule(one) for one in symbols]
        else:
            self._problem('a list of symbols is wanted, as ["BTCUSDT"]')
            return None
        good = [rule for rule in rules if rule is not None]
        if len(good) == len(rules):
            # What cannot be read may be just what the others stand for.
            self._check_order(good)
        return Selection(self.trade_type, interval.name, tuple(good)) if good else None

    def _problem(self, problem: object, *key: str) -> None:
        self.document.add_problem((*self.where, *key), problem)

    def _rule(self, value: object) -> Rule | None:
        if isinstance(value, dict):
            return self._table_rule(value, f"{_shown(value)}: ")
        try:
            text = upper_ascii(read_text(value))
            return Rule(pattern=text.removeprefix("!"), is_exclusion=text.startswith("!"))
        except ValueError as error:
            self._problem(f"{value!r}: {error}")
            return None

    def _table_rule(self, table: Mapping[str, object], prefix: str) -> Rule | None:
        """Return the rule of a table; the prefix shows which one, if it is one of a list."""
        before = len(self.document.problems)
        if not table:
            self._problem("an empty table: say what is wanted, as { quote = ... }")
        found: dict[str, tuple[str, ...]] = {}
        for key, value in table.items():
            # A place inside a list has no line of its own.
            place = () if prefix else (key,)
            name = f"{prefix}{key}: " if prefix else ""
            if key not in PROPERTIES:
                self._problem(f"{name}unknown key; {hint(key, tuple(PROPERTIES))}", *place)
            elif self.trade_type == "spot" and key not in _SPOT_HAS:
                self._problem(f"{name}spot has none: that is of futures", *place)
            else:
                try:
                    found[key] = tuple(_texts(value))
                except ValueError as error:
                    self._problem(f"{name}{error}", *place)
        if len(self.document.problems) != before:
            return None
        return Rule(**found)  # type: ignore[arg-type]

    def _check_order(self, rules: list[Rule]) -> None:
        """Name rules without an effect where they stand: their author meant something else."""
        if rules and all(rule.is_exclusion for rule in rules):
            self._problem('only exclusions: begin with what they are taken out of, as "*"')
            return
        if all(rule.is_name for rule in rules):
            return  # such a list is held against the others too, by the caller
        if rules[0].is_exclusion:
            self._problem(f"{_said(rules[0])} stands before all that it could be taken out of")
        since_exclusion: set[Rule] = set()
        for rule in rules:
            if rule.is_exclusion:
                since_exclusion.clear()
            elif rule in since_exclusion:
                self._problem(f"{_said(rule)} is there twice")
            since_exclusion.add(rule)


def _texts(value: object) -> Iterator[str]:
    texts = value if isinstance(value, list) else [value]
    if not texts:
        raise ValueError("an empty list: name one, or take the key out")
    for one in texts:
        text = upper_ascii(read_text(one))
        if not text or any(character in text for character in "*?!"):
            raise ValueError(f"{one!r} is no whole name, as USDT or PERPETUAL")
        yield text


def _said(rule: Rule) -> str:
    return repr(str(rule)) if rule.is_name or rule.is_exclusion else str(rule)


def _shown(table: Mapping[str, object]) -> str:
    return f"{{ {', '.join(table)} }}"
