"""The streams of recorder.toml: turn names, patterns and tables into series and selections."""

from collections.abc import Iterator, Mapping

import attrs

from kline_trio.candle import Series, upper_ascii
from kline_trio.config.toml import Document, Where, hint
from kline_trio.config.values import read_text
from kline_trio.exchange.markets import MARKETS
from kline_trio.interval import Interval
from kline_trio.selection import PROPERTIES, Rule, Selection

_SPOT_PROPERTIES = ("quote", "base")


def read_streams(
    document: Document, value: object
) -> tuple[tuple[Series, ...], tuple[Selection, ...]]:
    """Return what to record. Wrong values become problems of the document.

    Returns:
      the series of lists that only name symbols, each once, with markets in their usual order; and
      a selection for each list with patterns or properties, as a whole.
    """
    series: dict[Series, None] = {}
    patterns: list[Selection] = []
    for trade_type, intervals in document.table(("streams",), value, tuple(MARKETS)).items():
        if not isinstance(intervals, dict):
            problem = 'lists of symbols are wanted, as 1m = ["BTCUSDT"]'
            document.add_problem(("streams", trade_type), problem)
            continue
        for name, symbols in intervals.items():
            where = ("streams", trade_type, name)
            selection = _StreamList(where, trade_type, document).read(symbols)
            if selection and not all(rule.is_name for rule in selection.rules):
                patterns.append(selection)
            elif selection:
                for rule in selection.rules:
                    one = Series(trade_type, rule.pattern, selection.time_interval)
                    if one in series:
                        document.add_problem(where, f"{one.symbol!r} is there twice")
                    series[one] = None
    if not series and not patterns and not document.problems:
        document.add_problem(("streams",), "nothing to record: name at least one symbol")
    return tuple(series), tuple(patterns)


@attrs.frozen
class _StreamList:
    """The list, or the table, of one market and interval."""

    where: Where
    trade_type: str
    document: Document

    def read(self, symbols: object) -> Selection | None:
        """Return the selection; None if the interval is wrong, or no rule is right."""
        try:
            interval = Interval.from_text(self.where[-1])
            if interval.name not in MARKETS[self.trade_type].intervals:
                raise ValueError(f"{self.trade_type} has no candles of {self.where[-1]}")
            if not isinstance(symbols, dict | list):
                raise ValueError('a list of symbols is wanted, as ["BTCUSDT"]')
        except ValueError as error:
            self._problem(error)
            return None
        if isinstance(symbols, dict):
            rules = [self._table_rule(symbols, "")]
        else:
            rules = [self._rule(one) for one in symbols]
            if not symbols:
                self._problem("an empty list: name a symbol, or take the line out")
        right = [rule for rule in rules if rule is not None]
        if len(right) == len(rules):
            # A wrong rule may be the one that the others need.
            self._check_order(right)
        return Selection(self.trade_type, interval.name, tuple(right)) if right else None

    def _problem(self, problem: object, *key: str) -> None:
        self.document.add_problem((*self.where, *key), problem)

    def _rule(self, value: object) -> Rule | None:
        if isinstance(value, dict):
            return self._table_rule(value, f"{{ {', '.join(value)} }}: ")
        try:
            text = upper_ascii(read_text(value))
            return Rule(pattern=text.removeprefix("!"), is_exclusion=text.startswith("!"))
        except ValueError as error:
            self._problem(f"{value!r}: {error}")
            return None

    def _table_rule(self, table: Mapping[str, object], prefix: str) -> Rule | None:
        """Return the rule of a table; if it is one of a list, the prefix shows which."""
        before = len(self.document.problems)
        if not table:
            self._problem("an empty table: say what is wanted, as { quote = ... }")
        found: dict[str, tuple[str, ...]] = {}
        for key, value in table.items():
            # A table inside a list has no line of its own.
            place = () if prefix else (key,)
            name = f"{prefix}{key}: " if prefix else ""
            if key not in PROPERTIES:
                self._problem(f"{name}unknown key; {hint(key, tuple(PROPERTIES))}", *place)
            elif self.trade_type == "spot" and key not in _SPOT_PROPERTIES:
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
        """Add a problem for each rule that has no effect where it stands."""
        if rules and all(rule.is_exclusion for rule in rules):
            self._problem('only exclusions: begin with what they are taken out of, as "*"')
            return
        if all(rule.is_name for rule in rules):
            return  # `read_streams` finds names that are there twice
        if rules[0].is_exclusion:
            self._problem(f"{_quoted(rules[0])} stands before all that it could be taken out of")
        since_exclusion: set[Rule] = set()
        for rule in rules:
            if rule.is_exclusion:
                since_exclusion.clear()
            elif rule in since_exclusion:
                self._problem(f"{_quoted(rule)} is there twice")
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


def _quoted(rule: Rule) -> str:
    return repr(str(rule)) if rule.is_name or rule.is_exclusion else str(rule)
